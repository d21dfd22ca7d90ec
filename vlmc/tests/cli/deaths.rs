//! A dead peer is an event, not an outage; so is a dead supervisor.

use crate::lab::{Said, Storage, kill};
use std::fs;
use std::process::Stdio;

on_each! {
    files, rados =>
        every_role_may_die_under_load_and_nothing_is_lost,
        a_crashed_supervisor_is_replaced_and_the_peers_live_on,
        peers_without_a_supervisor_can_be_stopped,
        a_volume_of_a_node_that_died_goes_on_at_another_of_this_host,
}

const ROLES: [&str; 4] = ["blockerb", "blockerm", "mapperd", "vlmcd"];

fn every_role_may_die_under_load_and_nothing_is_lost(storage: &Storage) {
    let lab = storage.started(false);
    lab.vlmc("create volume -s 64").says("");
    let words = "--volume volume -ts 64m --pattern rand --iodepth 16 --seed 11 --verify full";
    let mut command = lab.command("archip-bench");
    command
        .arg("-c")
        .arg(&lab.config.file)
        .args(["-op", "write"])
        .args(words.split(' '));
    let writer = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for role in ROLES {
        lab.kill_and_await_successor(role);
    }
    let said = Said::from(writer.wait_with_output().unwrap());
    assert!(
        said.status == 0 && said.out.contains("failed 0, wrong contents 0"),
        "{said:?}"
    );
    let said = lab.run("archip-bench", &format!("-op read {words}"));
    assert!(
        said.status == 0 && said.out.contains("failed 0, wrong contents 0"),
        "{said:?}"
    );
    let said = lab.archipelago("status");
    assert_eq!(said.out.matches("restarted once").count(), 4, "{said:?}");
}

fn a_crashed_supervisor_is_replaced_and_the_peers_live_on(storage: &Storage) {
    let lab = storage.started(false);
    lab.vlmc("create volume -s 8").says("");
    let before = ROLES.map(|role| lab.pid(role));
    lab.kill_supervisor();
    assert_eq!(lab.archipelago("status").status, 0);
    let said = lab.archipelago("start");
    assert_eq!(said.status, 0, "{said:?}");
    for role in ROLES {
        assert!(
            said.out.contains(&format!("{role} runs already\n")),
            "{said:?}"
        );
    }
    assert_eq!(ROLES.map(|role| lab.pid(role)), before);
    lab.vlmc("info volume")
        .says("Volume volume: size: 8388608\n");
    lab.kill_and_await_successor("vlmcd");
    lab.vlmc("info volume")
        .says("Volume volume: size: 8388608\n");
}

fn peers_without_a_supervisor_can_be_stopped(storage: &Storage) {
    let lab = storage.started(true);
    lab.kill_supervisor();
    let said = lab.archipelago("stop");
    assert_eq!(
        (said.status, said.out.matches("OK").count()),
        (0, 4),
        "{said:?}"
    );
    assert_eq!(lab.archipelago("status").status, 3);
    assert!(!lab.run_dir().join("archipelago.sock").exists());
    assert_eq!(lab.archipelago("start").status, 0);
}

/// The whole node is gone, and with it whoever would start it again.
fn a_volume_of_a_node_that_died_goes_on_at_another_of_this_host(storage: &Storage) {
    let old = storage.started(true);
    let new = storage.beside(&old);
    old.vlmc("create volume -s 8").says("");
    fs::write(old.path("image"), vec![7; 8 << 20]).unwrap();
    old.vlmc("import image volume --existing").says("");
    old.vlmc("open volume").says("Volume opened\n");
    new.vlmc("open volume")
        .fails("vlmc open failed: opening of \"volume\": ");
    new.vlmc("check volume")
        .says("1 volumes and 2 objects checked, 0 findings\n");
    let process = old.pid("vlmcd");
    old.kill_supervisor();
    kill(process);
    let shown = new.vlmc("lock --show volume").out;
    assert!(shown.contains(&format!(", process {process}")), "{shown}");
    assert!(shown.ends_with(", which is dead\n"), "{shown}");
    let said = new.vlmc("check volume");
    let finding = format!(
        "volume: its lock is held by {}",
        &shown["Volume volume: lock: ".len()..]
    );
    assert!(said.out.starts_with(&finding), "{said:?}");
    assert_eq!(
        (said.status, said.err.as_str()),
        (255, "1 findings are not repaired\n")
    );
    new.vlmc("open volume").says("Volume opened\n");
    assert!(new.vlmc("lock --show volume").out.ends_with("this node\n"));
    new.vlmc("export volume out").says("");
    assert!(fs::read(new.path("out")).unwrap() == vec![7; 8 << 20]);
}
