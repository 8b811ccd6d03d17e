//! Keeps what the libraries inside export to themselves: the interpreter looks for `PyInit__engine` alone, and a name
//! of ours must never take the place of one that another module brings.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,--exclude-libs,ALL");
}
