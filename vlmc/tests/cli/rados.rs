//! The tools on a node over RADOS: what only a cluster has.

use crate::lab::{Lab, Said, Storage, kill};
use node::supervisor::pid_file;
use node::supervisor::pids;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Replaces something in the configuration of a node that does not run, which is well otherwise.
fn with(lab: &Lab, from: &str, to: &str) {
    let text = fs::read_to_string(&lab.config.file).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(&lab.config.file, text.replacen(from, to, 1)).unwrap();
}

/// A copy of the cluster's configuration in the node's folder, with something replaced.
fn conf_with(storage: &Storage, lab: &Lab, name: &str, from: &str, to: &str) -> String {
    let text = fs::read_to_string(storage.pools().lab().user_conf()).unwrap();
    assert!(text.contains(from), "{from}");
    let file = lab.path(name);
    fs::write(&file, text.replacen(from, to, 1)).unwrap();
    file.display().to_string()
}

/// What each wrong setting is, and what is said of it.
fn wrong_settings(storage: &Storage, lab: &Lab) -> Vec<(String, String, String)> {
    let pools = storage.pools();
    let conf = format!("ceph_conf = {}", pools.lab().user_conf().display());
    let address = pools.lab().address().to_string();
    let monitors = format!("mon_host = [v2:{address}:3300/0,v1:{address}:6789/0]");
    let nobody = "mon_host = 127.0.0.1:1\nclient_mount_timeout = 2";
    let nobody = conf_with(storage, lab, "nobody.conf", &monitors, nobody);
    let keyring = lab.path("keyring");
    fs::write(&keyring, "AQBnZQZm3yzuGRAAr1vKzQzVv9bKQvY2Q0f5VA==\n").unwrap();
    let ours = format!("{}/archip.keyring", pools.lab().dir().display());
    let no_key = conf_with(
        storage,
        lab,
        "no-key.conf",
        &ours,
        &keyring.display().to_string(),
    );
    let row = |from: &str, to: &str, said: String| (from.to_owned(), to.to_owned(), said);
    vec![
        row(
            &format!("pool = {}", pools.blocks),
            "pool = no-such-pool",
            "blockerb: pool: the cluster has no pool no-such-pool".into(),
        ),
        row(
            "cephx_id = archip",
            "cephx_id = nobody",
            "blockerb: cephx_id: client.nobody is refused with the key in ".into(),
        ),
        row(
            &conf,
            "ceph_conf = /no/such/ceph.conf",
            "blockerb: ceph_conf: cannot read /no/such/ceph.conf: ".into(),
        ),
        row(
            &conf,
            &format!("ceph_conf = {nobody}"),
            format!("blockerb: ceph_conf: no monitor that {nobody} names answered within 2 s"),
        ),
        row(
            &conf,
            &format!("ceph_conf = {no_key}"),
            format!(
                "blockerb: cephx_id: client.archip is refused with the key in {}, or has none there",
                keyring.display()
            ),
        ),
    ]
}

/// Each is said within seconds, by whoever needs the storage; nothing runs, nothing is remembered.
#[test]
fn wrong_settings_are_named() {
    let Some(storage) = Storage::over_rados("wrong_settings_are_named") else {
        return;
    };
    let lab = storage.lab(true);
    let whole = fs::read_to_string(&lab.config.file).unwrap();
    for (from, to, sentence) in wrong_settings(&storage, &lab) {
        with(&lab, &from, &to);
        let begin = Instant::now();
        let said = lab.archipelago("start");
        assert_eq!(said.status, 255, "{said:?}");
        assert!(said.err.contains(&sentence), "{sentence}: {said:?}");
        let said = lab.vlmc("list");
        assert_eq!((said.status, said.out.as_str()), (255, ""), "{said:?}");
        assert!(said.err.contains(&sentence), "{sentence}: {said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{sentence}");
        assert_eq!(lab.archipelago("status").status, 3);
        fs::write(&lab.config.file, &whole).unwrap();
    }
    assert!(!lab.path("run/served").exists(), "nothing was served");
    assert_eq!(lab.archipelago("start").status, 0);
}

/// Deletes a pool and makes another of its name.
fn replace_pool(storage: &Storage, pool: &str) {
    let pools = storage.pools();
    let delete = format!(
        r#"{{"prefix":"osd pool delete","pool":"{pool}","pool2":"{pool}","yes_i_really_really_mean_it":true}}"#
    );
    pools.lab().mon_commands(&[delete]).unwrap();
    pools.lab().create_pool(pool).unwrap();
    pools.outsider().forget(pool).unwrap();
}

/// A pool that was made again holds no objects: volumes would turn into zeros. What a node had served
/// was remembered in RUN_DIR, which a reboot empties, so that after one any pool was believed.
#[test]
fn a_pool_that_was_made_again_is_refused_also_after_a_reboot() {
    let test = "a_pool_that_was_made_again_is_refused_also_after_a_reboot";
    let Some(storage) = Storage::over_rados(test) else {
        return;
    };
    let lab = storage.lab(true);
    with(
        &lab,
        "RUN_DIR = run\n",
        "RUN_DIR = run\nSTATE_DIR = state\n",
    );
    assert_eq!(lab.archipelago("start").status, 0);
    lab.vlmc("create volume -s 8").says("");
    assert_eq!(lab.archipelago("stop").status, 0);
    let pool = storage.pools().blocks.clone();
    replace_pool(&storage, &pool);
    fs::remove_dir_all(lab.run_dir()).unwrap();
    let refused = lab.archipelago("start");
    assert_eq!(refused.status, 255, "{refused:?}");
    let file = file_about(&lab.path("state/served"), &pool);
    let begin =
        format!("blockerb: pool: {pool} is not the pool that this node has served: its id is ");
    let end = format!(
        "; if it is another one on purpose, remove {}\n",
        file.display()
    );
    for said in [refused, lab.vlmc("list")] {
        assert!(
            said.err.contains(&begin) && said.err.contains(&end),
            "{said:?}"
        );
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(lab.archipelago("start").status, 0);
    lab.vlmc("info volume")
        .says("Volume volume: size: 8388608\n");
}

/// The file below `dir` that says what was served of `pool`.
fn file_about(dir: &Path, pool: &str) -> std::path::PathBuf {
    let mut files = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let about = format!(" the pool {pool} of ");
    files
        .find(|file| fs::read_to_string(file).unwrap().contains(&about))
        .expect("the pool is remembered")
}

/// `vlmc list` on a host whose node has died: it took the place of the dead blocker, had it cut off
/// and took its locks over, for the moment of a listing.
#[test]
fn a_listing_takes_nothing_from_a_node_that_died() {
    let Some(storage) = Storage::over_rados("a_listing_takes_nothing_from_a_node_that_died") else {
        return;
    };
    let lab = storage.started(true);
    lab.vlmc("create volume -s 8").says("");
    lab.vlmc("open volume").says("Volume opened\n");
    let pids = [
        lab.pid("vlmcd"),
        pids::look(&pid_file(&lab.run_dir())).pid().unwrap(),
    ];
    kill(pids[1]);
    kill(pids[0]);
    let known = fs::read(lab.path("run/blockerm.rados")).unwrap();
    let holder = || {
        let pools = storage.pools();
        pools
            .outsider()
            .holder(&pools.maps, "volume")
            .unwrap()
            .expect("it is held")
    };
    let before = holder();
    lab.vlmc("list").says("volume\n");
    assert_eq!(holder(), before);
    assert_eq!(fs::read(lab.path("run/blockerm.rados")).unwrap(), known);
    assert_eq!(lab.archipelago("start").status, 0);
    lab.vlmc("open volume").says("Volume opened\n");
    assert_ne!(holder(), before, "its successor has taken it over");
    lab.vlmc("close volume").says("Volume closed\n");
}

/// The holder, and what it is told as.
fn shown(said: &Said) -> (&str, &str) {
    let line = said
        .out
        .strip_prefix("Volume volume: lock: ")
        .expect(&said.out);
    line.trim_end().split_once(", writing from ").expect(line)
}

#[test]
fn a_lock_of_somebody_else_is_shown_and_broken_and_its_holder_cut_off() {
    let test = "a_lock_of_somebody_else_is_shown_and_broken_and_its_holder_cut_off";
    let Some(storage) = Storage::over_rados(test) else {
        return;
    };
    let (lab, pools) = (storage.started(true), storage.pools());
    lab.vlmc("create volume -s 8").says("");
    let mut original = pools.stranger();
    original.lock(&pools.maps, "volume", "").unwrap();
    let name = original.name().unwrap();
    for words in ["lock volume --show", "lock --show volume"] {
        let said = lab.vlmc(words);
        assert_eq!(shown(&said).0, name, "{said:?}");
    }
    lab.vlmc("open volume")
        .fails("vlmc open failed: opening of \"volume\": ");
    lab.vlmc("unlock volume").fails("vlmc unlock failed");
    lab.vlmc("lock --show volume --format json");
    lab.vlmc("unlock -f volume").says("Volume unlocked\n");
    assert!(original.put(&pools.blocks, "late-write", b"late").is_err());
    lab.vlmc("lock --show volume")
        .says("Volume volume: lock: nobody\n");
    lab.vlmc("unlock -f volume").fails("vlmc unlock failed");
    lab.vlmc("open volume").says("Volume opened\n");
}
