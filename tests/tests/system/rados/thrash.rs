//! fio verifies four volumes on three OSDs (`size = 3`, `min_size = 2`) while one OSD at a time is
//! killed and started again.
//!
//! Some seconds long, or as many as `ARCHIPELAGO_THRASH_SECONDS` says; the milestone's run is 300.
//! The seed is printed and can be given by `ARCHIPELAGO_SEED`.

use super::clients::{Mapped, lacks};
use super::{name, node_on, start};
use config::Endpoint;
use rados_lab::{Lab, Options};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const VOLUMES: [&str; 4] = ["thrash-1", "thrash-2", "thrash-3", "thrash-4"];
const SIZE: u64 = 64 << 20;
/// How long an OSD is left dead, and left alone after it is whole again, in milliseconds.
const DEAD: std::ops::Range<u64> = 100..8000;
const ALONE: std::ops::Range<u64> = 0..2000;

/// Prints one line when every placement group has all its copies again, up to date.
const AWAIT_CLEAN: &str = r#"
import json, rados, sys, time
with rados.Rados(conffile=sys.argv[1]) as cluster:
    groups = int(sys.argv[2])
    left = ["%d.%x" % (cluster.pool_lookup(pool), n) for pool in sys.argv[3:] for n in range(groups)]
    while left:
        query = json.dumps({"prefix": "query", "pgid": left[-1]})
        code, out, _ = cluster.pg_command(left[-1], query, b"", timeout=30)
        if code == 0 and json.loads(out)["state"] == "active+clean":
            left.pop()
        else:
            time.sleep(0.05)
"#;

fn await_clean(lab: &Lab) {
    let groups = Options::default().placement_groups.to_string();
    lab.python(AWAIT_CLEAN, &[&groups, "blocks", "maps"], b"")
        .unwrap();
}

/// fio, and where its report goes; ended when dropped.
struct Fio {
    child: Child,
    report: PathBuf,
}

impl Fio {
    fn start(dir: &Path, volumes: &[Mapped], seconds: u64) -> Fio {
        let report = dir.join("fio.json");
        let mut command = Command::new("fio");
        command.current_dir(dir).args([
            "--output-format=json",
            "--output=fio.json",
            "--ioengine=nbd",
            "--rw=randwrite",
            "--bsrange=4k-64k",
            "--iodepth=16",
            "--time_based",
            "--verify=crc32c",
            "--verify_backlog=256",
            "--verify_fatal=1",
            "--fsync=256",
            "--verify_state_save=0",
        ]);
        command.arg(format!("--size={SIZE}"));
        command.arg(format!("--runtime={seconds}"));
        for volume in volumes {
            command.arg("--name=job");
            command.arg(format!("--uri={}", volume.device));
        }
        let said = File::create(dir.join("fio.out")).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap());
        let child = command.stderr(said).spawn().unwrap();
        Fio { child, report }
    }

    fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it says of each job.
    fn jobs(&mut self) -> Vec<Value> {
        let status = self.child.wait().unwrap();
        let said = std::fs::read_to_string(&self.report).unwrap();
        let out = std::fs::read_to_string(self.report.with_extension("out")).unwrap();
        assert!(status.success(), "fio: {status}: {out}{said}");
        let json = said.find('{').map_or("", |at| &said[at..]);
        let mut report: Value = serde_json::from_str(json).expect(&said);
        report["jobs"].as_array_mut().unwrap().drain(..).collect()
    }
}

impl Drop for Fio {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits as chance wants it, or until fio has ended.
fn wait(fio: &mut Fio, dice: &mut ChaCha8Rng, range: std::ops::Range<u64>) {
    let end = Instant::now() + Duration::from_millis(dice.random_range(range));
    while Instant::now() < end && fio.runs() {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One OSD after the other, until fio ends; how many.
fn thrash(lab: &mut Lab, fio: &mut Fio, dice: &mut ChaCha8Rng) -> u64 {
    let mut kills = 0;
    wait(fio, dice, ALONE);
    while fio.runs() {
        let osd = dice.random_range(0..3);
        lab.kill_osd(osd);
        kills += 1;
        wait(fio, dice, DEAD);
        lab.start_osd(osd).unwrap();
        await_clean(lab);
        wait(fio, dice, ALONE);
    }
    kills
}

/// The longest that any read, write or flush took.
fn worst_pause(jobs: &[Value]) -> Duration {
    let longest = |job: &Value| {
        let kinds = [
            &job["write"]["clat_ns"],
            &job["read"]["clat_ns"],
            &job["sync"]["lat_ns"],
        ];
        kinds
            .map(|kind| kind["max"].as_u64().unwrap_or(0))
            .into_iter()
            .max()
    };
    Duration::from_nanos(jobs.iter().filter_map(longest).max().unwrap_or(0))
}

fn number(variable: &str, otherwise: u64) -> u64 {
    let asked = std::env::var(variable).ok();
    asked.map_or(otherwise, |text| text.parse().expect("a number"))
}

#[test]
fn osds_that_die_at_random_disturb_no_volume() {
    let test = "osds_that_die_at_random_disturb_no_volume";
    if rados_lab::skip(test) || lacks(test, &["fio"]) {
        return;
    }
    let seconds = number("ARCHIPELAGO_THRASH_SECONDS", 8);
    let seed = number("ARCHIPELAGO_SEED", 1);
    println!("ARCHIPELAGO_SEED={seed} ARCHIPELAGO_THRASH_SECONDS={seconds}");
    let mut lab = start(Options {
        size: Some(3),
        min_size: Some(2),
        ..Options::with_osds(3)
    });
    let node = node_on(&lab, |params| params.endpoint = Endpoint::Nbd);
    let client = node.client();
    for volume in VOLUMES {
        client.create(name(volume), SIZE).unwrap();
    }
    let volumes = VOLUMES.map(|volume| Mapped::new(&node, volume));
    let mut fio = Fio::start(node.dir(), &volumes, seconds);
    let kills = thrash(&mut lab, &mut fio, &mut ChaCha8Rng::seed_from_u64(seed));
    let jobs = fio.jobs();
    let sum = |of: &dyn Fn(&Value) -> u64| jobs.iter().map(of).sum::<u64>();
    let ios = |way: &'static str| move |job: &Value| job[way]["total_ios"].as_u64().unwrap();
    let (wrote, verified) = (sum(&ios("write")), sum(&ios("read")));
    let errors = sum(&|job| u64::from(job["error"] != 0));
    println!(
        "{kills} OSDs killed in {seconds} s on {} volumes: {wrote} writes, {verified} reads that \
         verified them, {errors} jobs with errors, worst pause {:?}",
        jobs.len(),
        worst_pause(&jobs)
    );
    assert_eq!((jobs.len(), errors), (VOLUMES.len(), 0));
    assert!(kills > 0 && wrote > 0 && verified > 0);
    volumes.into_iter().for_each(Mapped::unmap);
    drop(client);
    assert!(node.stop().unwrap().success());
}
