//! Unknown operations, and requests whose lengths or names lie: each is answered with an errno,
//! at every port, and hurts nobody.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use system_tests::golden::node::Answer;
use system_tests::golden::{Node, name};
use system_tests::storage::Storage;
use xseg::Request;
use xseg::protocol::{
    CloneRequest, CreateObject, CreateRequest, NameRequest, Operation, PortNo, mapflags,
};

const SIZE: u64 = 5 << 20;

on_each! {
    files, rados =>
        b02_unknown_operations_are_answered,
        b02_operations_of_other_peers_are_answered,
        b22_sizes_larger_than_the_data,
        b22_structures_whose_lengths_lie,
        b22_counts_and_entries_of_create,
        b22_targets_that_are_no_names,
}

/// A node with a volume, a snapshot and an object.
struct Victim<'a> {
    storage: &'a Storage,
    node: Node,
}

impl Victim<'_> {
    fn new(storage: &Storage) -> Victim<'_> {
        let node = storage.node();
        let client = node.client();
        client.create(name("volume-1"), SIZE).unwrap();
        node.write(client.ports().vlmcd, "volume-1", 0, b"safe")
            .unwrap();
        client
            .snapshot(name("volume-1"), name("snapshot-1"), Default::default())
            .unwrap();
        client.close(name("volume-1"), Default::default()).unwrap();
        node.write(client.ports().blockerb, "object-1", 0, b"safe")
            .unwrap();
        Victim { storage, node }
    }

    /// Runs `test`; afterwards everything is as before, and all peers answer.
    fn unharmed_by(self, test: impl FnOnce(&Node)) {
        let before = self.storage.files();
        test(&self.node);
        assert_eq!(self.storage.files(), before);
        for port in self.node.all_ports() {
            self.node.client().ping(port).unwrap();
        }
        let ports = self.node.client().ports();
        assert_eq!(
            self.node.read(ports.vlmcd, "volume-1", 0, 4),
            Ok((4, b"safe".to_vec()))
        );
        assert_eq!(
            self.node.read(ports.blockerb, "object-1", 0, 4),
            Ok((4, b"safe".to_vec()))
        );
        self.node.stop();
    }
}

/// The answer to a request that needs nobody else: it is there when a later PING was answered.
fn ask_at_once(node: &Node, port: PortNo, request: Request, data: &[u8]) -> Answer {
    let client = node.client();
    client.block_on(async {
        let mut call = pin!(client.call(port, request, data, 0));
        let mut now = async || poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        let ping = Request::new(Operation::Ping, xseg::Name::EMPTY);
        assert!(now().await.is_pending(), "just sent");
        client.call(port, ping, &[], 0).await?;
        match now().await {
            Poll::Ready(answer) => answer.map(|reply| (reply.serviced, reply.bytes)),
            Poll::Pending => panic!("operation {} at port {port} is never answered", request.op),
        }
    })
}

/// mapperd of the original never answered what it did not know, and did not stop any more (B2).
fn b02_unknown_operations_are_answered(storage: &Storage) {
    Victim::new(storage).unharmed_by(|node| {
        for port in node.all_ports() {
            for op in (22..64).chain(72..=200).chain([1 << 16, u32::MAX]) {
                for (target, data) in [("volume-1", &[0; 600][..]), ("volume-1", &[]), ("", &[])] {
                    let target = if target.is_empty() {
                        xseg::Name::EMPTY
                    } else {
                        name(target)
                    };
                    let request = Request {
                        op,
                        target,
                        ..Request::default()
                    };
                    let errno = ask_at_once(node, port, request, data).unwrap_err();
                    // A blocker looks at the name first.
                    let unnamed = request.target.is_empty() && errno == libc::EINVAL;
                    assert!(
                        errno == libc::EOPNOTSUPP || unnamed,
                        "operation {op} at port {port}: {errno}"
                    );
                }
            }
        }
    });
}

/// What the original's mapperd and vlmcd swallowed or passed by.
fn b02_operations_of_other_peers_are_answered(storage: &Storage) {
    use Operation::*;
    Victim::new(storage).unharmed_by(|node| {
        let ports = node.client().ports();
        let foreign: [(PortNo, &[Operation]); 4] = [
            (
                ports.mapperd,
                &[Read, Write, Copy, Acquire, Release, Sync, Commit],
            ),
            (
                ports.vlmcd,
                &[
                    Copy, Acquire, Release, Hash, Create, Clone, Update, Sync, Commit,
                ],
            ),
            (
                ports.blockerb,
                &[
                    Clone, Create, Rename, Update, Open, Close, Snapshot, MapRead, MapWrite, Flush,
                    Sync, Commit,
                ],
            ),
            (
                ports.blockerm,
                &[
                    Clone, Create, Rename, Update, Open, Close, Snapshot, MapRead, MapWrite, Flush,
                    Sync, Commit,
                ],
            ),
        ];
        for (port, operations) in foreign {
            for operation in operations {
                let request = Request::new(*operation, name("volume-1"));
                let answer = ask_at_once(node, port, request, &[0; 512]);
                assert_eq!(
                    answer,
                    Err(libc::EOPNOTSUPP),
                    "{operation:?} at port {port}"
                );
            }
        }
    });
}

/// A request that asks for more than its data has room for (B22): the original's vlmcd wrote past
/// the buffer, over the heap that all clients share.
fn b22_sizes_larger_than_the_data(storage: &Storage) {
    Victim::new(storage).unharmed_by(|node| {
        let ports = node.client().ports();
        let (volume, object) = (name("volume-1"), name("object-1"));
        let mut refused = 0;
        for (port, target) in [
            (ports.vlmcd, volume),
            (ports.blockerb, object),
            (ports.blockerm, object),
        ] {
            for operation in [Operation::Read, Operation::Write] {
                for (size, datalen) in [
                    (1, 0),
                    (513, 512),
                    (1 << 20, 512),
                    (u64::MAX, 512),
                    (u64::MAX / 2, 0),
                ] {
                    let request = Request {
                        size,
                        ..Request::new(operation, target)
                    };
                    let answer = node.ask(port, request, &vec![1; datalen]);
                    assert_eq!(
                        answer,
                        Err(libc::EINVAL),
                        "{operation:?} of {size} in {datalen} at {port}"
                    );
                    refused += 1;
                }
                let request = Request {
                    offset: u64::MAX,
                    size: 2,
                    ..Request::new(operation, target)
                };
                assert_eq!(
                    node.ask(port, request, &[1; 2]),
                    Err(libc::EINVAL),
                    "{operation:?} at {port}"
                );
            }
        }
        assert_eq!(refused, 30);
    });
}

/// Structures that are too short, and names in them that claim to be longer than their field.
fn b22_structures_whose_lengths_lie(storage: &Storage) {
    Victim::new(storage).unharmed_by(|node| {
        let ports = node.client().ports();
        let clone = CloneRequest {
            parent: name("snapshot-1"),
            size: 0,
        }
        .encode()
        .to_vec();
        let one_name = NameRequest(name("object-1")).encode().to_vec();
        let create = CreateRequest {
            block_size: 0,
            flags: 0,
            objects: vec![CreateObject {
                name: name("object-1"),
                flags: mapflags::READONLY,
            }],
        };
        let create = create.encode();
        let structures = [
            (ports.mapperd, Operation::Clone, "new-name", clone, 256),
            (
                ports.mapperd,
                Operation::Snapshot,
                "volume-1",
                one_name.clone(),
                256,
            ),
            (
                ports.vlmcd,
                Operation::Snapshot,
                "volume-1",
                one_name.clone(),
                256,
            ),
            (
                ports.mapperd,
                Operation::Rename,
                "volume-1",
                one_name.clone(),
                256,
            ),
            (
                ports.vlmcd,
                Operation::Rename,
                "volume-1",
                one_name.clone(),
                256,
            ),
            (ports.blockerb, Operation::Copy, "new-name", one_name, 256),
            (
                ports.mapperd,
                Operation::Create,
                "new-name",
                create,
                12 + 256,
            ),
        ];
        for (port, operation, target, bytes, length_at) in structures {
            let request = Request {
                size: 512,
                ..Request::new(operation, name(target))
            };
            for len in [0, 1, 4, 11, bytes.len() / 2, bytes.len() - 1] {
                let answer = node.ask(port, request, &bytes[..len]);
                assert_eq!(
                    answer,
                    Err(libc::EINVAL),
                    "{operation:?} with {len} bytes at {port}"
                );
            }
            for claimed in [257, 1 << 16, u32::MAX] {
                let mut lying = bytes.clone();
                lying[length_at..length_at + 4].copy_from_slice(&claimed.to_le_bytes());
                let answer = node.ask(port, request, &lying);
                assert_eq!(
                    answer,
                    Err(libc::EINVAL),
                    "{operation:?} claims {claimed} at {port}"
                );
            }
        }
    });
}

/// CREATE: counts that the data cannot hold, and names that no entry can.
fn b22_counts_and_entries_of_create(storage: &Storage) {
    Victim::new(storage).unharmed_by(|node| {
        let mapperd = node.client().ports().mapperd;
        let ask = |bytes: &[u8], size| {
            let request = Request {
                size,
                ..Request::new(Operation::Create, name("new-name"))
            };
            node.ask(mapperd, request, bytes).map(drop)
        };
        let with_object = |object: &[u8]| {
            let object = CreateObject {
                name: xseg::Name::new(object).unwrap(),
                flags: 0,
            };
            CreateRequest {
                block_size: 0,
                flags: 0,
                objects: vec![object],
            }
            .encode()
        };
        let good = with_object(b"object-1");
        for count in [2, 1 << 20, u32::MAX] {
            let mut lying = good.clone();
            lying[..4].copy_from_slice(&count.to_le_bytes());
            let size = u64::from(count) << 22;
            assert_eq!(ask(&lying, size), Err(libc::EINVAL), "{count} objects");
        }
        for block_size in [1, 128, 129, 3 << 20, u32::MAX] {
            let mut lying = good.clone();
            lying[4..8].copy_from_slice(&block_size.to_le_bytes());
            assert_eq!(
                ask(&lying, 100),
                Err(libc::EINVAL),
                "block size {block_size}"
            );
        }
        for object in [
            &[b'x'; 124][..],
            &[b'x'; 256],
            b"",
            b"a/b/c/d",
            b"nul\0nul",
            b"..",
        ] {
            let refused = ask(&with_object(object), 512).unwrap_err();
            assert!(
                [libc::EINVAL, libc::ENAMETOOLONG].contains(&refused),
                "{}: {refused}",
                object.escape_ascii()
            );
        }
    });
}

/// Targets that are no names, among them the path that the original followed out of its directory.
fn b22_targets_that_are_no_names(storage: &Storage) {
    use Operation::*;
    Victim::new(storage).unharmed_by(|node| {
        let ports = node.client().ports();
        let served: [(PortNo, &[Operation]); 4] = [
            (
                ports.vlmcd,
                &[
                    Read, Write, Info, Open, Close, Delete, Snapshot, Rename, Truncate, Zeroes,
                    Discard,
                ],
            ),
            (
                ports.mapperd,
                &[
                    Info, MapRead, MapWrite, Open, Close, Delete, Snapshot, Rename, Truncate,
                    Update, Hash, Clone, Create,
                ],
            ),
            (
                ports.blockerb,
                &[
                    Read, Write, Info, Delete, Copy, Hash, Truncate, Zeroes, Acquire, Release,
                ],
            ),
            (
                ports.blockerm,
                &[
                    Read, Write, Info, Delete, Copy, Hash, Truncate, Zeroes, Acquire, Release,
                ],
            ),
        ];
        let long = [b'x'; 256];
        let targets = [
            &b""[..],
            b"short",
            b"../../../abcdefg",
            b"/absolute",
            b"nul\0nul",
            b".",
            b"..",
            &long,
        ];
        let mut data = NameRequest(name("object-1")).encode().to_vec();
        data.resize(600, 0);
        for (port, operations) in served {
            for operation in operations {
                let is_volume = port == ports.vlmcd || port == ports.mapperd;
                // An object's name may be as long as a target.
                for target in targets.into_iter().filter(|t| is_volume || t.len() < 256) {
                    let target = xseg::Name::new(target).unwrap();
                    let request = Request {
                        size: 512,
                        ..Request::new(*operation, target)
                    };
                    let answer = node.ask(port, request, &data);
                    let refused =
                        answer.expect_err(&format!("{operation:?} of {target} at {port}"));
                    assert!(
                        [libc::EINVAL, libc::ENAMETOOLONG].contains(&refused),
                        "{operation:?} of {target} at {port}: {refused}"
                    );
                }
            }
        }
    });
}
