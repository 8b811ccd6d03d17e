//! The figures as pictures: bars for the workloads, lines for how cost grows with the number of files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::report::{Middle, Report};

const WIDTH: f64 = 760.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 110.0;
const STYLE: &str = "<style>text{font:13px sans-serif;fill:#222}.floor{fill:#9aa5b1}.datamill{fill:#1f77b4}\
    .peer{fill:#d95f02}.axis{stroke:#bbb}polyline{fill:none;stroke-width:2}.reproduce{stroke:#1f77b4;fill:#1f77b4}\
    .upload{stroke:#2ca02c;fill:#2ca02c}.watch{stroke:#9467bd;fill:#9467bd}</style>";

/// Writes the pictures that the figures suffice for into a folder.
pub(crate) fn write(report: &Report, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let middles = report.middles();
    for job in ["upload", "reproduce", "download"] {
        let groups: Vec<(&str, Vec<(&str, &Middle)>)> = middles
            .iter()
            .filter(|((workload, of), _)| of == job && !is_growth(workload))
            .map(|((workload, _), by_who)| {
                let bars = ["floor", "datamill", "peer"].into_iter();
                (workload.as_str(), bars.filter_map(|who| Some((who, by_who.get(who)?))).collect())
            })
            .collect();
        if !groups.is_empty() {
            fs::write(folder.join(format!("performance-{job}.svg")), bars(job, &groups))?;
        }
    }
    let growth: Vec<(&str, Vec<&Middle>)> = ["reproduce", "upload", "watch"]
        .into_iter()
        .map(|job| {
            let of_job = middles.iter().filter(|((workload, of), _)| of == job && is_growth(workload));
            let mut points: Vec<&Middle> = of_job.filter_map(|(_, by_who)| by_who.get("datamill")).collect();
            points.sort_by_key(|point| point.files);
            (job, points)
        })
        .filter(|(_, points)| points.len() > 1)
        .collect();
    if !growth.is_empty() {
        fs::write(folder.join("performance-growth.svg"), lines(&growth))?;
    }
    Ok(())
}

fn is_growth(workload: &str) -> bool {
    matches!(workload, "small2k" | "small20k" | "small200k")
}

/// Seconds of each program, on an axis where each step is ten times the one before.
fn bars(job: &str, groups: &[(&str, Vec<(&str, &Middle)>)]) -> String {
    let all = groups.iter().flat_map(|(_, bars)| bars.iter().map(|(_, middle)| middle.seconds));
    let (least, most) = all.fold((f64::MAX, f64::MIN), |(least, most), s| (least.min(s), most.max(s)));
    let (from, to) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
    let x = |seconds: f64| LEFT + (WIDTH - LEFT - RIGHT) * (seconds.log10() - from) / (to - from);
    let mut body = String::new();
    let mut y = 44.0;
    for (workload, bars) in groups {
        text(&mut body, LEFT - 90.0, y + 14.0, "end", workload);
        for (who, middle) in bars {
            let end = x(middle.seconds);
            let more = if middle.did_not_finish { "+" } else { "" };
            text(&mut body, LEFT - 8.0, y + 13.0, "end", who);
            let _ = write!(
                body,
                r#"<rect class="{who}" x="{LEFT}" y="{y}" width="{:.1}" height="16"/>"#,
                (end - LEFT).max(1.0)
            );
            text(&mut body, end + 6.0, y + 13.0, "start", &format!("{:.2}{more} s", middle.seconds));
            y += 20.0;
        }
        y += 12.0;
    }
    let mut axis = String::new();
    for power in from as i32..=to as i32 {
        let seconds = 10f64.powi(power);
        let _ = write!(axis, r#"<line class="axis" x1="{0:.1}" y1="36" x2="{0:.1}" y2="{1}"/>"#, x(seconds), y - 8.0);
        text(&mut axis, x(seconds), 30.0, "middle", &format!("{seconds} s"));
    }
    picture(
        y,
        &format!("{job}: seconds until everything is done (each step is ten times the one before)"),
        &(axis + &body),
    )
}

/// Time and memory of each job by the number of files.
fn lines(growth: &[(&str, Vec<&Middle>)]) -> String {
    let micros = |point: &Middle| point.since_first * 1e6 / point.files as f64;
    let mut body = String::new();
    panel(&mut body, 50.0, "microseconds for each file, from the first record on", growth, micros);
    panel(&mut body, 280.0, "anonymous memory, MiB", growth, |point| point.anonymous_mib);
    for (i, (job, _)) in growth.iter().enumerate() {
        let y = 80.0 + 20.0 * i as f64;
        let _ = write!(body, r#"<rect class="{job}" x="{}" y="{}" width="12" height="12"/>"#, WIDTH - 96.0, y);
        text(&mut body, WIDTH - 78.0, y + 11.0, "start", job);
    }
    picture(500.0, "How cost grows with the number of files of 4 KiB", &body)
}

fn panel(body: &mut String, top: f64, title: &str, growth: &[(&str, Vec<&Middle>)], of: impl Fn(&Middle) -> f64) {
    const HEIGHT: f64 = 150.0;
    let points = || growth.iter().flat_map(|(_, points)| points.iter().copied());
    let most = points().map(&of).fold(f64::MIN, f64::max) * 1.1;
    let logs = || points().map(|point| (point.files as f64).log10());
    let (first, last) = (logs().fold(f64::MAX, f64::min), logs().fold(f64::MIN, f64::max));
    let (left, right) = (70.0, WIDTH - RIGHT - 20.0);
    let x = |point: &Middle| left + (right - left) * ((point.files as f64).log10() - first) / (last - first);
    let y = |value: f64| top + 20.0 + HEIGHT * (1.0 - value / most);
    text(body, left, top + 8.0, "start", title);
    for value in [0.0, most / 2.0, most] {
        let _ = write!(body, r#"<line class="axis" x1="{left}" y1="{0:.1}" x2="{right}" y2="{0:.1}"/>"#, y(value));
        text(body, left - 8.0, y(value) + 4.0, "end", &format!("{value:.0}"));
    }
    for (job, points) in growth {
        let line: Vec<String> = points.iter().map(|point| format!("{:.1},{:.1}", x(point), y(of(point)))).collect();
        let _ = write!(body, r#"<polyline class="{job}" style="fill:none" points="{}"/>"#, line.join(" "));
        for point in points {
            let _ = write!(body, r#"<circle class="{job}" cx="{:.1}" cy="{:.1}" r="3"/>"#, x(point), y(of(point)));
        }
    }
    if let Some((_, points)) = growth.first() {
        for point in points {
            text(body, x(point), top + HEIGHT + 38.0, "middle", &format!("{} files", point.files));
        }
    }
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = write!(body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}

fn picture(height: f64, title: &str, body: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">{STYLE}<rect width="100%" height="100%" fill="#fff"/><text x="8" y="16">{title}</text>{body}</svg>
"##
    )
}
