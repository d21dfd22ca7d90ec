//! Locks: how they look, whose they are, and who waits.

use super::{BLOCK, OLD, OURS, SIZE, Site, content, look, name, volume};
use client::{Hint, Volume};
use serde_json::json;
use std::sync::mpsc::channel;
use system_tests::golden::tree::hex;

/// Runs `test` on a node with O_DIRECT, which pads files, and on one without.
fn on_both(test: impl Fn(&Site)) {
    for direct in [true, false] {
        if let Some(site) = Site::new(direct) {
            test(&site);
            assert_eq!(site.locks(), [], "left in the lock directory");
        }
    }
}

#[test]
fn our_lock_is_what_the_original_writes_and_minds() {
    on_both(|site| {
        let (client, mut old) = (site.node.client(), site.old());
        client.create(name("volume"), SIZE).unwrap();
        assert_eq!(site.locks(), [], "a volume that nobody opened");
        client.open(name("volume"), Hint::default()).unwrap();
        let lock = ("volume_lock".to_owned(), site.lock_text(OURS));
        assert_eq!(site.locks(), [lock]);
        let refused = old.ask(json!(["open", "volume"])).unwrap_err();
        assert_eq!(refused, format!("locked by {OURS}"));
        assert!(old.ask(json!(["delete", "volume"])).is_err());
        // What needs no lock goes on.
        assert_eq!(old.ask(json!(["info", "volume"])).unwrap(), json!(SIZE));
        volume(&client, "volume").write_at(b"ours", 0).unwrap();
        volume(&client, "volume").flush().unwrap();
        let read = old.ask(json!(["read", "volume", 0, 4])).unwrap();
        assert_eq!(read, json!(hex(b"ours")));
        client.close(name("volume"), Hint::default()).unwrap();
        old.ask(json!(["open", "volume"])).unwrap();
        old.ask(json!(["close", "volume"])).unwrap();
    });
}

#[test]
fn their_lock_stops_what_needs_a_lock_and_nothing_else() {
    on_both(|site| {
        let (client, mut old) = (site.node.client(), site.old());
        old.ask(json!(["create", "volume", SIZE])).unwrap();
        old.ask(json!(["open", "volume"])).unwrap();
        let before = site.locks();
        let hint = Hint::default();
        let refused = [
            client.open(name("volume"), hint).unwrap_err(),
            client.remove(name("volume"), hint).unwrap_err(),
            client
                .snapshot(name("volume"), name("snapshot"), hint)
                .unwrap_err(),
            client
                .rename(name("volume"), name("renamed"), hint)
                .unwrap_err(),
            client.resize(name("volume"), 2 * SIZE, false).unwrap_err(),
        ];
        for error in refused {
            assert_eq!(error.errno, libc::EBUSY, "{error}");
        }
        let error = client.create(name("volume"), SIZE).unwrap_err();
        assert_eq!(error.errno, libc::EEXIST, "{error}");
        old.ask(json!(["write", "volume", BLOCK, hex(b"theirs")]))
            .unwrap();
        let mut bytes = [0; 6];
        volume(&client, "volume")
            .read_at(&mut bytes, BLOCK)
            .unwrap();
        assert_eq!(&bytes, b"theirs", "read while they have the lock");
        let shown = site
            .node
            .run("vlmc", &["lock", "--show", "volume"])
            .unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains(OLD), "{shown}");
        assert_eq!(site.locks(), before, "nothing changed");
        old.ask(json!(["close", "volume"])).unwrap();
    });
}

/// Section 8 of Ganeti's contract, from a node that was not upgraded to one that was.
#[test]
fn a_write_waits_for_their_close_and_builds_on_what_they_wrote() {
    on_both(|site| {
        let mut old = site.old();
        old.ask(json!(["create", "volume", SIZE])).unwrap();
        old.ask(json!(["open", "volume"])).unwrap();
        let (socket, ports) = (site.node.socket(), site.node.ports());
        let (started, has_started) = channel();
        let guest = std::thread::spawn(move || {
            let client = client::Client::connect(&socket, ports, "guest").unwrap();
            let volume = Volume::open(&client, name("volume"), Hint::default()).unwrap();
            // Its map is known here before it changes there.
            volume.read_at(&mut [0; 4], 0).unwrap();
            started.send(()).unwrap();
            volume.write_at(b"ours", 10).unwrap();
            volume.flush().unwrap();
        });
        has_started.recv().unwrap();
        for at in 0..20u64 {
            old.ask(json!(["write", "volume", at * 4096, hex(b"theirs")]))
                .unwrap();
        }
        assert!(!guest.is_finished(), "a write went past a foreign lock");
        old.ask(json!(["snapshot", "volume", "snapshot"])).unwrap();
        old.ask(json!(["write", "volume", BLOCK, hex(b"later")]))
            .unwrap();
        old.ask(json!(["close", "volume"])).unwrap();
        guest.join().unwrap();
        let client = site.node.client();
        let bytes = content(&client, "volume");
        assert_eq!(&bytes[..16], b"theirs\0\0\0\0ours\0\0");
        assert_eq!(&bytes[19 * 4096..][..6], b"theirs");
        assert_eq!(&bytes[BLOCK as usize..][..5], b"later");
        let frozen = look(&client, "snapshot");
        assert_eq!(&frozen[..16], b"theirs\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(&frozen[BLOCK as usize..][..5], [0; 5]);
        client.close(name("volume"), Hint::default()).unwrap();
    });
}

/// B8: the original compared only the beginning of the owner string.
#[test]
fn a_lock_whose_owner_only_begins_like_ours_is_not_ours() {
    on_both(|site| {
        let (client, mut old) = (site.node.client(), site.old_named(&format!("{OURS}0")));
        old.ask(json!(["create", "volume", SIZE])).unwrap();
        old.ask(json!(["open", "volume"])).unwrap();
        let error = client.open(name("volume"), Hint::default()).unwrap_err();
        assert_eq!(error.errno, libc::EBUSY, "{error}");
        old.ask(json!(["close", "volume"])).unwrap();
        client.open(name("volume"), Hint::default()).unwrap();
        client.close(name("volume"), Hint::default()).unwrap();
    });
}

/// A host that was upgraded after its old node died: the new one has the same owner string.
#[test]
fn what_a_dead_node_left_is_taken_over_by_its_own_successor_alone() {
    on_both(|site| {
        let client = site.node.client();
        let mut stranger = site.old();
        stranger.ask(json!(["create", "stranger", SIZE])).unwrap();
        stranger.ask(json!(["open", "stranger"])).unwrap();
        drop(stranger);
        let error = client.open(name("stranger"), Hint::default()).unwrap_err();
        assert_eq!(error.errno, libc::EBUSY, "{error}");
        let mut predecessor = site.old_named(OURS);
        predecessor.ask(json!(["create", "our-own", SIZE])).unwrap();
        predecessor.ask(json!(["open", "our-own"])).unwrap();
        predecessor
            .ask(json!(["write", "our-own", 0, hex(b"before")]))
            .unwrap();
        drop(predecessor);
        client.open(name("our-own"), Hint::default()).unwrap();
        assert_eq!(&content(&client, "our-own")[..6], b"before");
        client.close(name("our-own"), Hint::default()).unwrap();
        // And theirs by them, whenever they come back.
        let mut back = site.old();
        back.ask(json!(["open", "stranger"])).unwrap();
        back.ask(json!(["close", "stranger"])).unwrap();
    });
}
