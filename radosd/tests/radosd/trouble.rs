//! Bad input and tired clusters: a sentence that names the setting, within seconds; no hang.

use crate::rig::{Pool, config, go_on, lab, name, run_dir, stop, write};
use driver::{Driver, Errno, Op, OpId};
use rados_lab::{Lab, Options};
use radosd::Config;
use std::time::{Duration, Instant};

/// What is said when it cannot be opened.
fn refusal(config: Config, patience_s: u64) -> String {
    let begin = Instant::now();
    let refused = Pool::open(config).err().expect("it must not open");
    let took = begin.elapsed();
    assert!(
        took < Duration::from_secs(patience_s),
        "{refused} after {took:?}"
    );
    let mut said = refused.to_string();
    let mut cause = std::error::Error::source(&refused);
    while let Some(why) = cause {
        said += &format!(": {why}");
        cause = why.source();
    }
    eprintln!("{said}");
    said
}

#[track_caller]
fn names(said: &str, setting: &str, thing: &str) {
    assert!(said.starts_with(setting) && said.contains(thing), "{said}");
    assert!(!said.contains('\n'), "one sentence: {said}");
}

/// A configuration of the lab's cluster with something replaced.
fn varied(lab: &Lab, from: &str, to: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string(lab.conf()).unwrap();
    assert!(text.contains(from), "{from}");
    let file = lab.dir().join(format!("varied-{}.conf", to.len()));
    std::fs::write(&file, text.replace(from, to)).unwrap();
    file
}

#[test]
fn every_wrong_setting_is_named() {
    if rados_lab::skip("every_wrong_setting_is_named") {
        return;
    }
    let lab = lab(Options::default());
    let here = run_dir();
    let good = config(&lab, "blocks", "here", here.path());
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = good.clone();
        change(&mut config);
        config
    };
    let said = refusal(with(&|c| c.ceph_conf = "/no/such/ceph.conf".into()), 5);
    names(&said, "ceph_conf: ", "/no/such/ceph.conf");
    let said = refusal(with(&|c| c.pool = "no-such-pool".into()), 5);
    names(&said, "pool: ", "no-such-pool");
    let said = refusal(with(&|c| c.cephx_id = Some("nobody".into())), 5);
    names(&said, "cephx_id: ", "client.nobody");

    // The key of somebody else.
    let keyring = lab.dir().join("wrong");
    let wrong = "[client.archip]\nkey = AQBnZQZm3yzuGRAAr1vKzQzVv9bKQvY2Q0f5VA==\n";
    std::fs::write(&keyring, wrong).unwrap();
    let ours = format!("keyring = {}/keyring", lab.dir().display());
    let conf = varied(&lab, &ours, &format!("keyring = {}", keyring.display()));
    let said = refusal(with(&|c| c.ceph_conf.clone_from(&conf)), 15);
    names(&said, "cephx_id: ", "client.archip");
    // A bare key, and one that is cut off.
    for (wrong, thing) in [
        (
            "AQBnZQZm3yzuGRAAr1vKzQzVv9bKQvY2Q0f5VA==\n",
            "has none there",
        ),
        ("[client.archip]\nkey = AQB\n", "cannot be read"),
    ] {
        std::fs::write(&keyring, wrong).unwrap();
        let said = refusal(with(&|c| c.ceph_conf.clone_from(&conf)), 15);
        names(&said, "cephx_id: ", thing);
        names(&said, "cephx_id: ", &keyring.display().to_string());
    }

    // Monitors that nobody answers for.
    let address = lab.address().to_string();
    let conf = varied(
        &lab,
        &format!("mon_host = [v2:{address}:3300/0,v1:{address}:6789/0]"),
        "mon_host = 127.0.0.1:1",
    );
    let said = refusal(with(&|c| c.ceph_conf.clone_from(&conf)), 15);
    names(&said, "ceph_conf: ", "127.0.0.1:1");

    // Reading only.
    lab.set_capabilities("archip", true, "allow r pool=blocks")
        .unwrap();
    let said = refusal(good.clone(), 5);
    names(&said, "cephx_id: ", "may not write to the pool blocks");

    // A pool that was made again has another number.
    lab.set_capabilities("archip", true, "allow rwx pool=blocks")
        .unwrap();
    let pool = Pool::open(good.clone()).unwrap();
    let id = pool.driver.id().to_owned();
    drop(pool);
    let again = with(&|c| c.expected_id = Some(id.clone()));
    Pool::open(again.clone()).unwrap();
    let delete = r#"{"prefix":"osd pool delete","pool":"blocks","pool2":"blocks","yes_i_really_really_mean_it":true}"#;
    lab.mon_commands(&[delete.into()]).unwrap();
    lab.create_pool("blocks").unwrap();
    let said = refusal(again, 10);
    names(&said, "pool: ", "not the pool that this node has served");
}

/// A full pool answers instead of letting writes wait, and what frees room still works.
#[test]
fn a_full_pool_answers() {
    if rados_lab::skip("a_full_pool_answers") {
        return;
    }
    let lab = lab(Options::default());
    let here = run_dir();
    let mut pool = Pool::open(config(&lab, "blocks", "here", here.path())).unwrap();
    pool.write("first", 0, &[1; 4096]).unwrap();
    // An OSD tells the monitors that it is full, and they mark its pools.
    let ratios = ["nearfull", "backfillfull", "full"]
        .map(|which| format!(r#"{{"prefix":"osd set-{which}-ratio","ratio":0.000001}}"#));
    lab.mon_commands(&ratios).unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    let full = loop {
        let answer = pool.write("second", 0, &[1; 4096]);
        let _ = pool.ask(Op::Delete {
            name: name("second"),
            durable: true,
        });
        if let Err(errno) = answer {
            break errno;
        }
        assert!(Instant::now() < patience, "the pool never gets full");
    };
    assert!([Errno::DQUOT, Errno::NOSPC].contains(&full), "{full:?}");
    assert_eq!(pool.read("first", 0, 4).unwrap(), [1; 4]);
    let delete = Op::Delete {
        name: name("first"),
        durable: true,
    };
    pool.ask(delete).unwrap();
}

/// Writes wait for an OSD that is away, and are there when it is back.
#[test]
fn an_osd_that_is_away_is_waited_for() {
    if rados_lab::skip("an_osd_that_is_away_is_waited_for") {
        return;
    }
    let mut lab = lab(Options::default());
    let here = run_dir();
    let mut pool = Pool::open(config(&lab, "blocks", "here", here.path())).unwrap();
    pool.write("object", 0, b"before").unwrap();
    lab.kill_osd(0);
    for id in 0..20 {
        pool.driver
            .submit(OpId(id), write("object", id * 4, b"wait"));
    }
    let until = Instant::now() + Duration::from_secs(1);
    let mut done = Vec::new();
    while Instant::now() < until {
        pool.driver.poll(&mut done);
        pool.reactor.turn_or_wait(Some(10_000_000)).unwrap();
    }
    assert!(done.is_empty(), "{done:?}");
    lab.start_osd(0).unwrap();
    while done.len() < 20 {
        pool.driver.poll(&mut done);
        pool.reactor.turn_or_wait(Some(10_000_000)).unwrap();
    }
    assert!(done.iter().all(|done| done.result.is_ok()), "{done:?}");
    assert_eq!(pool.read("object", 0, 80).unwrap(), b"wait".repeat(20));
}

/// With a limit set a read is answered with an error at once; a change only after its client was
/// cut off, by its successor, when the OSD knows that; and it never lands after its answer.
#[test]
fn with_a_timeout_nothing_lands_late() {
    if rados_lab::skip("with_a_timeout_nothing_lands_late") {
        return;
    }
    let lab = lab(Options::default());
    let here = run_dir();
    let conf = varied(&lab, "rados_osd_op_timeout = 0", "rados_osd_op_timeout = 2");
    let mut config = config(&lab, "blocks", "here", here.path());
    config.ceph_conf = conf;
    let mut pool = Pool::open(config.clone()).unwrap();
    pool.write("object", 0, b"before").unwrap();
    // It takes what is sent to it, and may serve it when it goes on.
    let osd = lab.osd_pid(0).unwrap();
    stop(osd);
    assert_eq!(pool.read("object", 0, 6), Err(Errno::TIMEDOUT));
    pool.driver.submit(OpId(1), write("object", 0, b"late!!"));
    let mut done = Vec::new();
    while pool.driver.lost().is_none() {
        pool.driver.poll(&mut done);
        pool.reactor.turn_or_wait(Some(100_000_000)).unwrap();
    }
    assert!(done.is_empty(), "it may still land: {done:?}");
    let why = pool.driver.lost().unwrap();
    assert!(
        why.contains("the pool blocks did not answer within rados_osd_op_timeout"),
        "{why}"
    );
    drop(pool);

    let mut successor = Pool::open(config.clone()).unwrap();
    successor
        .driver
        .submit(OpId(2), write("object", 0, b"late!!"));
    for _ in 0..20 {
        successor.driver.poll(&mut done);
        successor.reactor.turn_or_wait(Some(50_000_000)).unwrap();
    }
    assert!(done.is_empty(), "it may still land: {done:?}");
    go_on(osd);
    while done.is_empty() {
        successor.driver.poll(&mut done);
        successor.reactor.turn_or_wait(Some(50_000_000)).unwrap();
    }
    let failed = done.remove(0);
    assert_eq!(failed.result.unwrap_err(), Errno::TIMEDOUT);
    assert_eq!(failed.buf.unwrap().to_vec(), b"late!!");
    successor.write("object", 0, b"after.").unwrap();
    lab.wait_usable().unwrap();
    assert_eq!(successor.read("object", 0, 6).unwrap(), b"after.");
}
