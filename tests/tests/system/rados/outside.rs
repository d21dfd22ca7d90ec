//! What is done to a pool behind a node's back, where a directory has nothing of the kind: objects
//! that may not be read, and objects of locks that say nonsense. (A pool that was made again: the
//! tests of the tools. Objects that are no maps, or missing: `golden`, on each storage.)

use super::{below_target, name};
use client::{Client, Error, ErrorKind, Hint, Volume};
use config::SampleRados;
use rados_lab::Pools;
use serde_json::{Value, json};
use system_tests::golden::Node;
use system_tests::real::RealNode;
use system_tests::storage::{Storage, sample};

const NONE: Hint = Hint {
    assume_v0: false,
    v0_size: None,
};

/// A Ceph user that may use the pools, but of the maps only objects whose names begin with
/// `volume-`, or what a node looks for besides: where a node of that user has its objects.
fn half_blind(pools: &Pools) -> SampleRados {
    let id = format!("half-blind-{}", pools.maps);
    let prefixes = ["volume-", "archip_", ".archipelago"];
    let maps =
        prefixes.map(|prefix| format!("allow rwx pool={} object_prefix {prefix}", pools.maps));
    let osd = format!("allow rwx pool={}, {}", pools.blocks, maps.join(", "));
    let command = json!({
        "prefix": "auth get-or-create-key", "entity": format!("client.{id}"), "format": "plain",
        "caps": ["mon", rados_lab::BLOCKLIST_CAPABILITY, "osd", osd],
    });
    let lab = pools.lab();
    let key = lab.mon_commands(&[command.to_string()]).unwrap().remove(0);
    let (keyring, conf) = (lab.dir().join(&id), lab.dir().join(format!("{id}.conf")));
    std::fs::write(&keyring, format!("[client.{id}]\nkey = {}\n", key.trim())).unwrap();
    let text = std::fs::read_to_string(lab.user_conf()).unwrap();
    let lines = text
        .lines()
        .map(|line| match line.starts_with("keyring =") {
            true if !line.contains("osd.$id") => format!("keyring = {}\n", keyring.display()),
            _ => format!("{line}\n"),
        });
    std::fs::write(&conf, lines.collect::<String>()).unwrap();
    SampleRados {
        ceph_conf: conf,
        cephx_id: id,
        ..sample(pools)
    }
}

/// Everything that would make a volume of the name.
fn creations(client: &Client, volume: &str) -> [(&'static str, Result<(), Error>); 4] {
    [
        ("create", client.create(name(volume), 1 << 20)),
        (
            "clone",
            client.clone_volume(name("volume-snapshot"), name(volume), 0, NONE),
        ),
        (
            "snapshot",
            client.snapshot(name("volume-1"), name(volume), NONE),
        ),
        (
            "rename",
            client.rename(name("volume-1"), name(volume), NONE),
        ),
    ]
}

/// An unreadable name is no free name (B3).
#[test]
fn b03_what_may_not_be_read_is_not_missing() {
    let Some(pools) = rados_lab::borrow("b03_what_may_not_be_read_is_not_missing") else {
        return;
    };
    let narrow = half_blind(&pools);
    let start = RealNode::start(&below_target(), |params| params.rados = Some(narrow));
    let node = start.unwrap();
    let client = node.client();
    client.create(name("volume-1"), 1 << 30).unwrap();
    client
        .snapshot(name("volume-1"), name("volume-snapshot"), NONE)
        .unwrap();
    // Not even whether it is there can be known: one is, the other is not.
    pools
        .outsider()
        .put(&pools.maps, "hidden-1", b"whose?")
        .unwrap();
    let before = pools.facts().unwrap();
    for hidden in ["hidden-1", "hidden-2"] {
        for (what, outcome) in creations(&client, hidden) {
            let refused = outcome.expect_err(what);
            assert_eq!(
                refused.errno,
                libc::EPERM,
                "{what} over {hidden}: {refused}"
            );
        }
        for outcome in [
            client.info(name(hidden), NONE).map(drop),
            client.open(name(hidden), NONE),
            client.remove(name(hidden), NONE),
        ] {
            let refused = outcome.unwrap_err();
            assert_eq!(refused.errno, libc::EPERM, "{hidden}: {refused}");
        }
    }
    assert_eq!(pools.facts().unwrap(), before);
    let volume = Volume::open(&client, name("volume-1"), NONE).unwrap();
    volume.write_at(b"others work", 0).unwrap();
    drop((volume, client));
    assert!(node.stop().unwrap().success());
}

/// One of many clients, who are more than the report about a lock has room for.
fn many(nonce: u32) -> Value {
    let address = format!(
        "v2:[2001:db8:1111:2222:3333:4444:5555:6666]:0/{}",
        4_000_000_000 + nonce
    );
    json!({ "address": address, "pool": "gone" })
}

/// What may stand in a lock whose holder is not one of ours, or has lost its mind.
fn nonsense(pools: &Pools) -> Vec<String> {
    let with = |key: &str, value: Value| {
        let mut said = json!({
            "owner": "otherhost_2", "host": "otherhost", "since": 1, "process": "",
            "clients": [{ "address": "10.255.255.1:0/77", "pool": pools.maps }],
        });
        said[key] = value;
        said.to_string()
    };
    vec![
        "somebody's own words".into(),
        "{".into(),
        "[1, 2, 3]".into(),
        "é\u{1f512}\n\t\"".into(),
        with("owner", 7.into()),
        with("owner", "".into()),
        with("owner", "o".repeat(3000).into()),
        with("since", u64::MAX.into()),
        with("process", "0 0 0 0 0 0 0".into()),
        with("clients", "nobody".into()),
        with("clients", json!([])),
        with("clients", (1..=80).map(many).collect()),
    ]
}

fn lock_info(node: &Node) -> Result<Value, Error> {
    let report = node.client().lock_info(name("volume-1"))?;
    Ok(serde_json::from_slice(&report).unwrap())
}

/// Whatever a lock says, its holder has it; it is shown, and broken by force alone, which cuts the
/// locker off: the cluster knows by itself who that is.
#[test]
fn locks_that_say_nonsense_hold_and_are_broken_by_force() {
    let test = "locks_that_say_nonsense_hold_and_are_broken_by_force";
    let Some(storage) = Storage::over_rados(test) else {
        return;
    };
    let (node, pools) = (storage.node(), storage.pools());
    let client = node.client();
    client.create(name("volume-1"), 1 << 20).unwrap();
    for said in nonsense(pools) {
        let mut holder = pools.stranger();
        holder.lock(&pools.maps, "volume-1", &said).unwrap();
        let before = storage.files();
        let refused = client.open(name("volume-1"), NONE).expect_err(&said);
        assert_eq!(refused.kind(), ErrorKind::Busy, "{said}: {refused}");
        let refused = client.remove(name("volume-1"), NONE).expect_err(&said);
        assert_eq!(refused.kind(), ErrorKind::Busy, "{said}: {refused}");
        let refused = client.unlock(name("volume-1"), false).expect_err(&said);
        assert_eq!(refused.errno, libc::EPERM, "{said}: {refused}");
        let info = lock_info(&node).unwrap_or_else(|why| panic!("{said}: {why}"));
        assert_eq!(info["ours"], false, "{said}: {info}");
        assert_eq!(storage.files(), before, "{said}");
        client
            .unlock(name("volume-1"), true)
            .unwrap_or_else(|why| panic!("{said}: {why}"));
        let late = holder.put(&pools.blocks, "late-write", b"late");
        assert!(late.is_err(), "{said}: a late write lands");
        client.open(name("volume-1"), NONE).unwrap();
        client.close(name("volume-1"), NONE).unwrap();
    }
    node.stop();
}

/// Whether the cluster refuses anybody of a host; other tests have others cut off meanwhile.
fn refuses(pools: &Pools, host: &str) -> bool {
    let list = r#"{"prefix":"osd blocklist ls"}"#;
    let said = pools.lab().mon_commands(&[list.into()]).unwrap();
    said[0].contains(host)
}

/// What a lock names is what `unlock -f` cuts off. An address that would cut off a whole host (Ceph
/// reads `0/0x7` as one), or that is none, is refused, and the lock stays: nobody knows then who may
/// still write. Nobody is cut off then. (Those whom it names rightly were, as far as they stood before
/// the wrong one.)
#[test]
fn addresses_that_are_none_are_refused_and_the_lock_stays() {
    let test = "addresses_that_are_none_are_refused_and_the_lock_stays";
    let Some(storage) = Storage::over_rados(test) else {
        return;
    };
    let (node, pools) = (storage.node(), storage.pools());
    let client = node.client();
    client.create(name("volume-1"), 1 << 20).unwrap();
    for address in [
        "",
        "10.255.254.1",
        "10.255.254.1:0",
        "10.255.254.1:0/0",
        "v2:10.255.254.1:0/00",
        // Ceph's own reader stops at what is no digit.
        "10.255.254.1:0/0x7",
        "10.255.254.1:0/+0",
        "10.255.254.1:0/-0",
        "10.255.254.1:0/ 0",
        "10.255.254.1:0/7 and what follows",
        "10.255.254.1:0/7\", \"expire\": \"0",
        "10.255.254.1:0/99999999999999999999",
        "[::1]:0/0",
        "nowhere:0/7",
    ] {
        let said = json!({
            "owner": "otherhost_2", "host": "otherhost", "since": 1, "process": "",
            "clients": [
                { "address": "10.255.254.0:0/5", "pool": pools.maps },
                { "address": address, "pool": pools.maps },
            ],
        });
        let mut holder = pools.stranger();
        holder
            .lock(&pools.maps, "volume-1", &said.to_string())
            .unwrap();
        let refused = client.unlock(name("volume-1"), true).expect_err(address);
        assert_eq!(refused.errno, libc::EINVAL, "{address:?}: {refused}");
        let named = holder.name().unwrap();
        let found = pools.outsider().holder(&pools.maps, "volume-1").unwrap();
        assert_eq!(found, Some(named), "{address:?}");
        assert!(!refuses(pools, "10.255.254"), "{address:?}");
        pools
            .outsider()
            .break_lock(&pools.maps, "volume-1")
            .unwrap();
    }
    node.stop();
}

/// The original leaves an object of no bytes for a lock; bytes in it change nothing.
#[test]
fn bytes_in_the_object_of_a_lock_change_nothing() {
    let Some(storage) = Storage::over_rados("bytes_in_the_object_of_a_lock_change_nothing") else {
        return;
    };
    let (node, pools) = (storage.node(), storage.pools());
    let client = node.client();
    client.create(name("volume-1"), 1 << 20).unwrap();
    let header = pools.outsider().get(&pools.maps, "volume-1").unwrap();
    for bytes in [b"bytes".to_vec(), header.unwrap()] {
        pools
            .outsider()
            .put(&pools.maps, "volume-1_lock", &bytes)
            .unwrap();
        client.open(name("volume-1"), NONE).unwrap();
        let volume = Volume::open(client, name("volume-1"), NONE).unwrap();
        volume.write_at(b"data", 0).unwrap();
        volume.flush().unwrap();
        drop(volume);
        client.close(name("volume-1"), NONE).unwrap();
        assert_eq!(
            pools.outsider().holder(&pools.maps, "volume-1").unwrap(),
            None
        );
        assert_eq!(storage.get("maps", "volume-1_lock").unwrap(), bytes);
    }
    node.stop();
}
