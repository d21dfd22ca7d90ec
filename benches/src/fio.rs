//! fio's clients: of NBD, for the same load on every server, ours and the others'; and of rbd.

use crate::case::{Trouble, Turn};
use crate::load::Work;
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// What fio works on.
#[derive(Clone, Debug)]
pub enum Target<'a> {
    /// The NBD export at this address.
    Nbd(&'a str),
    /// An image of rbd.
    Rbd {
        /// Of the cluster; librbd's settings are in it, too.
        conf: PathBuf,
        /// Where the image is.
        pool: &'a str,
        /// Its name.
        image: &'a str,
    },
}

impl Target<'_> {
    fn arguments(&self) -> Vec<String> {
        match self {
            Target::Nbd(uri) => vec!["--ioengine=nbd".into(), format!("--uri={uri}")],
            Target::Rbd { pool, image, .. } => vec![
                "--ioengine=rbd".into(),
                "--clientname=admin".into(),
                format!("--pool={pool}"),
                format!("--rbdname={image}"),
            ],
        }
    }

    /// fio with `arguments` on it; what it printed.
    fn fio(&self, arguments: &[String]) -> Result<String, Trouble> {
        let mut command = Command::new("fio");
        if let Target::Rbd { conf, .. } = self {
            command.env("CEPH_CONF", conf).env_remove("CEPH_ARGS");
        }
        let output = command.args(arguments).args(self.arguments()).output();
        let output = output.map_err(|why| Trouble::Missing(format!("fio: {why}")))?;
        let text = String::from_utf8_lossy(&output.stderr);
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(Trouble::Failed(format!(
                "fio: {}",
                text.lines().next().unwrap_or("")
            ))),
        }
    }
}

/// Writes `size` bytes of `target` from `offset` on, `block` at once.
pub fn fill(target: &Target<'_>, offset: u64, size: u64, block: u64) -> Result<(), Trouble> {
    let line = [
        "--name=fill".into(),
        "--rw=write".into(),
        format!("--bs={block}"),
        format!("--offset={offset}"),
        format!("--size={size}"),
    ];
    target.fio(&line).map(drop)
}

/// Does `work` on the first `size` bytes of `target` for `budget`.
pub fn run(
    target: &Target<'_>,
    size: u64,
    work: &Work,
    seed: u64,
    budget: Duration,
) -> Result<Turn, Trouble> {
    let text = target.fio(&arguments(size, work, seed, budget))?;
    // The engine prints a greeting before the JSON.
    let json = text.find('{').map_or("", |at| &text[at..]);
    turn(json, work.write).ok_or(Trouble::Failed("fio told nothing".into()))
}

fn arguments(size: u64, work: &Work, seed: u64, budget: Duration) -> Vec<String> {
    let order = if work.random { "rand" } else { "" };
    let verb = if work.write { "write" } else { "read" };
    vec![
        "--name=bench".into(),
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
        let line = arguments(1 << 20, &work, 7, Duration::from_secs(1)).join(" ");
        assert!(
            line.contains("--rw=randwrite --bs=4096 --iodepth=32 --size=1048576"),
            "{line}"
        );
    }
}
