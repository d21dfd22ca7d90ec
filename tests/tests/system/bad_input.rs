//! Bad input through the real programs and a real node: each row is what was sent, the errno, and
//! the whole sentence; afterwards nothing has changed (the storage, the segment), and all peers
//! answer. On each storage, but for what ends before any storage is touched.
//!
//! | rows | sent through |
//! |---|---|
//! | [`names`] | names that are none, or taken: `vlmc`, and the client |
//! | [`volumes`] | sizes, ranges, snapshots: `vlmc`, and the client |
//! | [`lengths`] | counts and lengths that lie: requests made by hand, at every port |
//! | [`maps`] | objects that are no maps: `vlmc`, the client, and the peers' logs |
//! | [`configuration`] | files that are no configurations: `archipelago`, `vlmc` |
//! | [`joining`] | segments of other versions, ports that nobody serves |
//!
//! What is thorough elsewhere is not done again: every errno of lying requests (`golden::refusals`)
//! and of bad maps (`golden::badmaps`) on the embedded node, every fault of a configuration
//! (`config`, `every_error_names_file_section_and_key`), and who scribbles over the segment
//! (`trouble`).

mod configuration;
mod joining;
mod lengths;
mod maps;
mod names;
mod volumes;

use client::{Client, Error, Hint, Name, Volume};
use config::SampleParams;
use system_tests::golden::tree::Files;
use system_tests::real::{RealNode, program};
use system_tests::storage::Storage;

/// Bytes of `volume-1`.
const SIZE: u64 = 1 << 30;

fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

/// A node with a volume, a snapshot and an object of data, and how they were.
struct Victim {
    storage: Storage,
    node: RealNode,
    client: Client,
    before: Files,
}

impl Victim {
    fn new(storage: &Storage) -> Victim {
        let parent = program("archipelago").parent().unwrap().to_owned();
        let shape = |params: &mut SampleParams| {
            params.process = None;
            storage.place().vary(params);
        };
        let node = RealNode::start(&parent, shape).unwrap();
        let client = node.client();
        let none = Hint::default();
        client.create(name("volume-1"), SIZE).unwrap();
        let volume = Volume::open(&client, name("volume-1"), none).unwrap();
        volume.write_at(b"safe", 0).unwrap();
        client
            .snapshot(name("volume-1"), name("snapshot-1"), none)
            .unwrap();
        client.close(name("volume-1"), none).unwrap();
        let before = storage.place().files(node.dir());
        Victim {
            storage: storage.clone(),
            node,
            client,
            before,
        }
    }

    /// The same, with both in use: who reads or writes takes the lock.
    fn in_use(storage: &Storage) -> Victim {
        let mut victim = Victim::new(storage);
        for target in ["volume-1", "snapshot-1"] {
            let volume = Volume::open(&victim.client, name(target), Hint::default()).unwrap();
            volume.read_at(&mut [0; 4], 0).unwrap();
        }
        victim.before = victim.files();
        victim
    }

    /// What the node keeps.
    fn files(&self) -> Files {
        self.storage.place().files(self.node.dir())
    }

    /// What the node keeps is what it kept before, and nothing of the segment is taken.
    #[track_caller]
    fn is_unchanged(&self, after: &str) {
        assert_eq!(self.files(), self.before, "{after}");
        self.node.await_empty_segment();
    }

    /// The node is as before, and every peer answers; then it is stopped.
    fn end(self) {
        self.is_unchanged("the end");
        let ports = self.node.ports();
        for port in [ports.blockerb, ports.blockerm, ports.mapperd, ports.vlmcd] {
            self.client.ping(port).unwrap();
        }
        let volume = Volume::open(&self.client, name("volume-1"), Hint::default()).unwrap();
        let mut bytes = [0; 4];
        volume.read_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"safe");
        drop((volume, self.client));
        assert!(self.node.stop().unwrap().success());
    }

    /// Sends each of `rows` by the client.
    #[track_caller]
    fn refuses(&self, rows: &[Row]) {
        let wrong = rows.iter().filter_map(|row| {
            let said = (row.send)(&self.client).map_err(|why| (why.errno, why.to_string()));
            self.is_unchanged(&row.sentence);
            let expected = Err((row.errno, row.sentence.clone()));
            (said != expected).then(|| format!("{said:?}, not {expected:?}"))
        });
        assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
    }

    /// Runs `vlmc` with each of `rows`: its arguments, and its words on standard error.
    #[track_caller]
    fn refuses_of_vlmc(&self, rows: &[(&[&str], &str)]) {
        let wrong = rows.iter().filter_map(|(arguments, sentence)| {
            let said = self.node.run("vlmc", arguments).unwrap();
            self.is_unchanged(sentence);
            let expected = (Some(255), "", format!("{sentence}\n"));
            let (out, error) = (text(&said.stdout), text(&said.stderr));
            let said = (said.status.code(), out.as_str(), error);
            (said != expected).then(|| format!("vlmc {arguments:?}: {said:?}, not {expected:?}"))
        });
        assert_eq!(wrong.collect::<Vec<_>>(), Vec::<String>::new());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

type Send = dyn Fn(&Client) -> Result<(), Error>;

/// One request of the client that must be refused.
struct Row {
    send: Box<Send>,
    errno: i32,
    sentence: String,
}

/// A row.
fn row(
    errno: i32,
    sentence: impl Into<String>,
    send: impl Fn(&Client) -> Result<(), Error> + 'static,
) -> Row {
    Row {
        send: Box::new(send),
        errno,
        sentence: sentence.into(),
    }
}
