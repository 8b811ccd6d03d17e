//! Which partition a file goes to: a fixed function of its relative path, so that every uploader, on
//! every machine and in every version, sends all chunks of a path to the same one.

/// The partition, `0..partitions`, of the file at `relative_path` (UTF-8, with `/`).
///
/// FNV-1a with 64 bits over the bytes of the path, then the finaliser of MurmurHash3 (`fmix64`), then
/// the remainder by `partitions`. A number of partitions below 1 counts as 1. A topic that gets more
/// partitions later gets another mapping.
pub fn partition_for(relative_path: &str, partitions: i32) -> i32 {
    let count = u64::try_from(partitions).unwrap_or(1).max(1);
    let partition = fmix64(fnv1a(relative_path.as_bytes())) % count;
    // Below `partitions`, which is an `i32`.
    partition as i32
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// FNV-1a leaves the low bits of similar short names alike; this spreads every bit over all others.
fn fmix64(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_halves_are_the_published_functions() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(fmix64(0), 0);
        assert_eq!(fmix64(1), 0xb456_bcfc_34c2_cb2c);
    }

    #[test]
    fn the_partition_of_a_path_never_changes() {
        let pinned = [
            ("image.tif", 1, 0),
            ("image.tif", 6, 3),
            ("run_07/detector a/scan 001.csv", 6, 3),
            ("Zürich_試料/µ-XRD – données №1.xy", 6, 4),
            ("Zürich_試料/µ-XRD – données №1.xy", 1000, 330),
            ("", 12, 2),
        ];
        for (path, partitions, expected) in pinned {
            assert_eq!(partition_for(path, partitions), expected, "`{path}` of {partitions}");
        }
    }

    #[test]
    fn a_number_of_partitions_that_makes_no_sense_is_one() {
        assert_eq!(partition_for("a", 0), 0);
        assert_eq!(partition_for("a", -3), 0);
        assert!((0..i32::MAX).contains(&partition_for("a", i32::MAX)));
    }

    #[test]
    fn numbered_names_spread_evenly() {
        for partitions in [2, 3, 6, 8, 12, 50] {
            let mut files = vec![0u32; partitions as usize];
            let total = 1000 * partitions;
            for number in 0..total {
                let path = format!("2026-03-02/scan_{number:05}.csv");
                files[partition_for(&path, partitions) as usize] += 1;
            }
            // The standard deviation is about 31 for a mean of 1000; six of them are never reached.
            assert!(files.iter().all(|count| (810..=1190).contains(count)), "{files:?}");
        }
    }
}
