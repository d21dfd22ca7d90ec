//! fio's NBD client: the same load on every NBD server, ours and the others'.

use crate::case::{Trouble, Turn};
use crate::load::Work;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

/// Does `work` on the NBD export at `uri` (`size` bytes of it) for `budget`.
pub fn run(
    uri: &str,
    size: u64,
    work: &Work,
    seed: u64,
    budget: Duration,
) -> Result<Turn, Trouble> {
    let output = Command::new("fio")
        .args(arguments(uri, size, work, seed, budget))
        .output()
        .map_err(|why| Trouble::Missing(format!("fio: {why}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Trouble::Failed(format!(
            "fio: {}",
            text.lines().next().unwrap_or("")
        )));
    }
    // The engine prints a greeting before the JSON.
    let text = String::from_utf8_lossy(&output.stdout);
    let json = text.find('{').map_or("", |at| &text[at..]);
    turn(json, work.write).ok_or(Trouble::Failed("fio told nothing".into()))
}

fn arguments(uri: &str, size: u64, work: &Work, seed: u64, budget: Duration) -> Vec<String> {
    let order = if work.random { "rand" } else { "" };
    let verb = if work.write { "write" } else { "read" };
    vec![
        "--name=bench".into(),
        "--ioengine=nbd".into(),
        format!("--uri={uri}"),
        format!("--rw={order}{verb}"),
        format!("--bs={}", work.block),
        format!("--iodepth={}", work.depth),
        format!("--size={size}"),
        format!("--randseed={seed}"),
        "--time_based".into(),
        format!("--runtime={}ms", budget.as_millis()),
        "--output-format=json".into(),
    ]
}

fn turn(json: &str, write: bool) -> Option<Turn> {
    let report: Value = serde_json::from_str(json).ok()?;
    let side = &report["jobs"][0][if write { "write" } else { "read" }];
    let (ops, rate) = (side["total_ios"].as_u64()?, side["iops"].as_f64()?);
    let percentile = |p: &str| side["clat_ns"]["percentile"][p].as_f64().map(|ns| ns / 1e3);
    let quantiles_us = [
        percentile("50.000000")?,
        percentile("99.000000")?,
        percentile("99.900000")?,
    ];
    Some(Turn {
        ops,
        elapsed: Duration::from_secs_f64(ops as f64 / rate.max(1e-9)),
        quantiles_us: Some(quantiles_us),
        ..Turn::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_becomes_a_turn() {
        let json = r#"{"jobs": [{"read": {"iops": 2000.0, "total_ios": 1000, "clat_ns":
            {"percentile": {"50.000000": 1500, "99.000000": 9000, "99.900000": 12000}}}}]}"#;
        let turn = turn(json, false).unwrap();
        assert_eq!((turn.ops, turn.elapsed), (1000, Duration::from_millis(500)));
        assert_eq!(turn.quantiles_us, Some([1.5, 9.0, 12.0]));
        assert!(super::turn(json, true).is_none());
    }

    #[test]
    fn the_command_line_says_what_the_work_is() {
        let work = Work {
            write: true,
            random: true,
            block: 4096,
            depth: 32,
        };
        let line = arguments(
            "nbd+unix:///?socket=/s",
            1 << 20,
            &work,
            7,
            Duration::from_secs(1),
        )
        .join(" ");
        assert!(
            line.contains("--rw=randwrite --bs=4096 --iodepth=32 --size=1048576"),
            "{line}"
        );
    }
}
