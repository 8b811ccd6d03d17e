//! `datamill status`: how a group and a watched folder stand.

mod another_topic;
mod backlog;
mod failures;
mod named;
mod programs;

use serde_json::Value;

use super::bench::Bench;

impl Bench {
    fn status<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["status", "--topic_name", self.topic.as_str()];
        args.extend(["--consumer_group_id", self.group.as_str()]);
        args.extend(more);
        args
    }

    /// What it prints as JSON.
    fn standing(&self, code: i32, more: &[&str]) -> Value {
        let [object] = &self.objects(code, &self.status(&[more, &["--json"]].concat()))[..] else {
            panic!("one object")
        };
        object.clone()
    }
}

fn said(object: &Value) -> String {
    let problems = object["problems"].as_array().unwrap();
    problems.iter().map(|problem| format!("{}\n", problem["text"].as_str().unwrap())).collect()
}

/// Kind, subject and name of each problem.
fn kinds(object: &Value) -> Vec<[&str; 3]> {
    let problems = object["problems"].as_array().unwrap().iter();
    problems.map(|problem| ["kind", "subject", "name"].map(|key| problem[key].as_str().unwrap())).collect()
}
