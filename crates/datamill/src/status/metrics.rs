//! The counters as metrics, in the two formats that Prometheus reads. No label holds the name of a file.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::lag::{Lag, PartitionLag};
use super::{Shown, Source};
use crate::facts::{Counts, FailureStatus, Histogram, Hold, Snapshot, State};
use crate::report::clock;
use crate::report::heartbeat::ProgramKind;

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Text,
}

impl Format {
    /// What a scraper takes, by its `Accept`. One that says nothing of OpenMetrics gets the older text format.
    pub(super) fn accepted(accept: &str) -> Self {
        let quality = |wanted: &str| {
            let media = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let is_it = parts.next()?.eq_ignore_ascii_case(wanted);
                let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
                is_it.then_some(quality)
            });
            media.fold(0.0_f64, f64::max)
        };
        let open = quality("application/openmetrics-text");
        if open > 0.0 && open >= quality("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    /// Its media type.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// The metrics of a program.
#[derive(Debug)]
pub(super) struct Metrics {
    pub(super) shown: Shown,
    /// How far its group is behind, where that is known.
    pub(super) lag: Option<Lag>,
}

impl Metrics {
    /// All of them as they are now.
    pub(super) fn text(self, format: Format) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("datamill");
        registry.register_collector(Box::new(self));
        let mut written = String::with_capacity(16 << 10);
        match format {
            Format::OpenMetrics => text::encode(&mut written, &registry)?,
            Format::Text => prometheus_text::encode(&mut written, &registry)?,
        }
        Ok(written)
    }
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut sheet, now) = (Sheet(encoder), self.shown.snapshot());
        let kind = self.shown.kind.as_str();
        let build = [("version", env!("CARGO_PKG_VERSION")), ("program", self.shown.program.as_str()), ("kind", kind)];
        sheet.info("build", "The program, and the version of datamill in it", &build)?;
        sheet.files(&now.counts)?;
        sheet.messages(&now.counts)?;
        sheet.work(&now)?;
        if self.shown.kind != ProgramKind::Producer {
            sheet.group(&now)?;
        }
        sheet.state(&now.state)?;
        sheet.holds(&now)?;
        match (&self.lag, &self.shown.source) {
            (Some(lag), Some(source)) => sheet.lag(lag, source, clock::now_ms()),
            _ => Ok(()),
        }
    }
}

/// What a metric says of a partition: whether it is estimated, where that is told, and its value.
type Values = Vec<(Option<&'static str>, f64)>;

/// What is being written.
struct Sheet<'a>(DescriptorEncoder<'a>);

impl Sheet<'_> {
    fn files(&mut self, counts: &Counts) -> fmt::Result {
        self.counters("files", "Uploads of files that have their outcome", "outcome", counts.by_outcome())?;
        let by_status = FailureStatus::ALL.map(|status| (status.as_str(), counts.failures[status as usize]));
        self.counters("failures", "Files that failed for the first time, by the kind of failure", "status", by_status)?;
        let bytes = [
            ("done", counts.done_bytes),
            ("failed", counts.failed_bytes),
            ("incomplete", counts.incomplete_bytes),
            ("delivered", counts.delivered_bytes),
        ];
        self.counters(
            "file_bytes",
            "Bytes of the files with this outcome, as far as they are there",
            "outcome",
            bytes,
        )?;
        self.counter("files_begun", "Files whose first chunk was read", counts.begun)?;
        self.counter("files_whole", "Files whose chunks were all read", counts.whole)?;
        self.counter("files_sent", "Files whose last chunk was handed over to the log", counts.sent)?;
        self.counter("files_lost", "Unfinished files that lost their first chunk to the retention", counts.lost)
    }

    fn messages(&mut self, counts: &Counts) -> fmt::Result {
        let messages = [
            ("read", counts.messages_read),
            ("processed", counts.messages_processed),
            ("produced", counts.messages_produced),
        ];
        self.counters(
            "messages",
            "Messages that were read, whose file is handled, or that were sent",
            "what",
            messages,
        )?;
        let bytes =
            [("read", counts.bytes_read), ("processed", counts.bytes_processed), ("produced", counts.bytes_produced)];
        self.counters("message_bytes", "Bytes of these messages", "what", bytes)?;
        self.counter("messages_undecodable", "Messages that are not a chunk of a file", counts.undecodable)?;
        self.counter("messages_read_again", "Messages of finished files that were read again", counts.read_again)?;
        self.counter("read_again_bytes", "Bytes of messages that had been read before", counts.bytes_read_again)
    }

    fn work(&mut self, now: &Snapshot) -> fmt::Result {
        let (counts, state) = (&now.counts, &now.state);
        self.counter("results", "Results that are durable", counts.results)?;
        self.counter("result_bytes", "Bytes of these results", counts.result_bytes)?;
        let attempts = [("first", counts.started.saturating_sub(counts.tried_again)), ("again", counts.tried_again)];
        self.counters("attempts", "Runs of the function for a file that have begun", "attempt", attempts)?;
        let retried = [("done", counts.retried), ("failed", counts.failed_again)];
        self.counters("retries", "Files that had failed in an earlier run and were tried again", "outcome", retried)?;
        self.counter("reruns", "Files with a result that were run again, as it was asked for", counts.rerun)?;
        let letters = [("file", counts.dead_letters_of_files), ("message", counts.dead_letters_of_messages)];
        self.counters("dead_letters", "Dead letters that were sent, by what they are about", "about", letters)?;
        self.histogram("processing_seconds", "Time that the function took for a file", &now.running)?;
        let commits = [("done", counts.commits), ("not_done", counts.commits_again)];
        self.counters("commits", "Commits that happened, and that did not and were tried again", "outcome", commits)?;
        self.histogram("commit_seconds", "Time that commits took which happened", &now.committing)?;
        if let Some(ms) = state.committed_ms {
            self.gauge("last_commit_timestamp_seconds", "Time of the last commit", ms as f64 / 1000.0)?;
        }
        Ok(())
    }

    fn group(&mut self, now: &Snapshot) -> fmt::Result {
        let (counts, state) = (&now.counts, &now.state);
        self.gauge("group_member", "1 while the group counts this process as a member", u64::from(state.is_member))?;
        self.gauge(
            "output_folder_gone",
            "1 while the output folder is gone, or another one is at its path",
            u64::from(state.is_folder_gone),
        )?;
        self.gauge("partitions", "Partitions that are assigned to this process", state.partitions)?;
        self.counter("rebalances", "Times that partitions were assigned or revoked", counts.rebalances)
    }

    fn state(&mut self, state: &State) -> fmt::Result {
        self.gauge(
            "files_waiting",
            "Whole files that wait for the function, or files that wait to be sent",
            state.waiting,
        )?;
        self.gauge("files_in_hand", "Files that the function works on, or that are being sent", state.in_hand)?;
        self.gauge("files_filling", "Files whose chunks are not all there", state.filling)?;
        self.gauge("files_filling_bytes", "Bytes of their chunks that are there", state.filling_bytes)?;
        self.gauge("files_cut_off", "Of these files, those whose uploads were probably cut off", state.cut_off)?;
        let memory = [("filling", state.memory_filling), ("whole", state.memory_whole)];
        self.gauges("memory_bytes", "Memory that the content of files takes, and results", "files", memory)?;
        let disk = [("filling", state.disk_filling), ("whole", state.disk_whole)];
        self.gauges("disk_bytes", "Disk that files take until the function has them", "files", disk)
    }

    fn holds(&mut self, now: &Snapshot) -> fmt::Result {
        let state = &now.state;
        let held_now = Hold::ALL.map(|hold| (hold.as_str(), u64::from(state.held.is_some_and(|(now, _)| now == hold))));
        self.gauges("held", "1 while this holds the program", "reason", held_now)?;
        let held = Hold::ALL.map(|hold| (hold.as_str(), now.held[hold as usize].as_secs_f64()));
        self.counters("held_seconds", "Time for which this held the program", "reason", held)
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str); 3]) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn counters<V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.into_iter().try_for_each(|(of, value)| {
            family.encode_family(&[(label, of)])?.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'static str, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let mut values = values.into_iter();
        values.try_for_each(|(of, value)| family.encode_family(&[(label, of)])?.encode_gauge(&value))
    }

    /// The lag of each partition.
    fn lag(&mut self, lag: &Lag, source: &Source, now_ms: i64) -> fmt::Result {
        let (topic, group) = (source.topic.as_str(), source.group.as_str());
        let named: Vec<(String, &PartitionLag)> =
            lag.partitions.iter().map(|partition| (partition.read.partition.to_string(), partition)).collect();
        let mut family = |name: &str, help: &str, values: &dyn Fn(&PartitionLag) -> Values| {
            let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (partition, lag) in &named {
                for (estimated, value) in values(lag) {
                    let labels = [("topic", topic), ("group", group), ("partition", partition.as_str())];
                    let estimated = estimated.map(|word| [("estimated", word)]);
                    match estimated {
                        Some(estimated) => family.encode_family(&(labels, estimated))?.encode_gauge(&value)?,
                        None => family.encode_family(&labels)?.encode_gauge(&value)?,
                    }
                }
            }
            Ok(())
        };
        // what was read is known, what was not is told from what was
        let both = |read: u64, estimate: Option<f64>| {
            let estimate = estimate.map(|value| (Some("true"), value));
            [(Some("false"), read as f64)].into_iter().chain(estimate).collect()
        };
        family("lag_messages", "Messages of uploads without an outcome", &|p| vec![(None, p.messages() as f64)])?;
        family("lag_seconds", "Age of the oldest upload without an outcome", &|p| {
            p.seconds(now_ms).map(|seconds| (None, seconds)).into_iter().collect()
        })?;
        family("lag_files", "Uploads without an outcome, estimated where they were not read", &|p| {
            both(p.read.files, p.estimate(lag.density).map(|(files, _)| files))
        })?;
        family("lag_bytes", "Bytes of uploads without an outcome, estimated where they were not read", &|p| {
            both(p.read.bytes, p.estimate(lag.density).map(|(_, bytes)| bytes))
        })
    }

    fn histogram(&mut self, name: &str, help: &str, times: &Histogram) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let steps: Vec<(f64, u64)> = times.steps().collect();
        metric.encode_histogram::<NoLabelSet>(times.sum.as_secs_f64(), times.count(), &steps, None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::facts::{Fact, Facts, FileRow};

    fn metrics(facts: &Facts) -> Metrics {
        let (program, counters) = ("a \"program\"\n\\".to_owned(), Arc::clone(facts.counters()));
        let shown =
            Shown { program, kind: ProgramKind::Reproducer, counters, log: None, source: None, recent: Arc::default() };
        Metrics { shown, lag: None }
    }

    /// The samples of a text: each line that is no comment, at its last space.
    fn samples(text: &str) -> BTreeMap<&str, f64> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples: Vec<(&str, f64)> = lines
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(name, value)| (name, value.parse().unwrap()))
            .collect();
        let by_name: BTreeMap<_, _> = samples.iter().copied().collect();
        assert_eq!(by_name.len(), samples.len(), "a series is there twice: {text}");
        by_name
    }

    #[test]
    fn both_formats_have_the_same_numbers_under_the_same_names() {
        let facts = Facts::default();
        let file = FileRow { rel_filepath: "secret name".to_owned(), n_chunks: 3, ..FileRow::default() };
        facts.tell(&Fact::Done { file: &file, bytes: 10, result: Some(2), again: false, rerun: false, at_ms: 0 });
        facts.tell(&Fact::Ran { file: "secret name", took: Duration::from_millis(2) });
        let (open, text) =
            (metrics(&facts).text(Format::OpenMetrics).unwrap(), metrics(&facts).text(Format::Text).unwrap());
        // OpenMetrics writes the end of a step as `1.0`, the text format as `1`
        assert_eq!(samples(&open.replace(".0\"}", "\"}")), samples(&text));
        let samples = samples(&text);
        for (name, value) in [
            ("datamill_files_total{outcome=\"done\"}", 1.0),
            ("datamill_files_total{outcome=\"failed\"}", 0.0),
            ("datamill_messages_total{what=\"processed\"}", 3.0),
            ("datamill_results_total", 1.0),
            ("datamill_result_bytes_total", 2.0),
            ("datamill_processing_seconds_bucket{le=\"0.001\"}", 0.0),
            ("datamill_processing_seconds_bucket{le=\"0.003\"}", 1.0),
            ("datamill_processing_seconds_bucket{le=\"+Inf\"}", 1.0),
            ("datamill_processing_seconds_count", 1.0),
            ("datamill_processing_seconds_sum", 0.002),
            ("datamill_held_seconds_total{reason=\"commits\"}", 0.0),
            ("datamill_group_member", 0.0),
        ] {
            assert_eq!(samples.get(name), Some(&value), "{name} in {text}");
        }
        assert!(!open.contains("secret"), "a name of a file is a label: {open}");
        assert!(open.ends_with("# EOF\n") && !text.contains("# EOF"));
        let build = concat!(
            "datamill_build_info{version=\"",
            env!("CARGO_PKG_VERSION"),
            "\",program=\"a \\\"program\\\"\\n\\\\\",kind=\"reproducer\"} 1\n"
        );
        assert!(open.contains(build) && text.contains(build), "{open}");
    }

    #[test]
    fn each_metric_is_described_once_and_each_sample_belongs_to_one() {
        for format in [Format::OpenMetrics, Format::Text] {
            let text = metrics(&Facts::default()).text(format).unwrap();
            let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            let types: Vec<(&str, &str)> = types.map(|line| line.split_once(' ').unwrap()).collect();
            let names: BTreeSet<&str> = types.iter().map(|(name, _)| *name).collect();
            assert_eq!(names.len(), types.len(), "{text}");
            for name in &names {
                assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
            }
            for sample in samples(&text).keys() {
                let name = sample.split('{').next().unwrap();
                let belongs = ["", "_total", "_info", "_bucket", "_sum", "_count"];
                let of: Vec<_> = belongs.iter().filter_map(|end| name.strip_suffix(end)).collect();
                assert!(of.iter().any(|name| names.contains(name)), "{name} in {text}");
            }
        }
    }

    #[test]
    fn a_scraper_gets_the_format_that_it_asks_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::accepted(prometheus), Format::OpenMetrics);
        for accept in [
            "",
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            "application/openmetrics-text;q=0.4, text/plain;q=0.5",
            "application/openmetrics-text;q=0",
        ] {
            assert_eq!(Format::accepted(accept), Format::Text, "{accept}");
        }
    }
}
