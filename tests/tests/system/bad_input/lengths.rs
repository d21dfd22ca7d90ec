//! Counts and lengths that lie, in requests made by hand. There is nobody to say a sentence to but
//! the sender, who has the errno; so each row has that alone.

use super::{SIZE, Storage, Victim, name};
use xseg::Request;
use xseg::protocol::{
    CloneRequest, CreateObject, CreateRequest, NameRequest, Operation, PortNo, flags,
};

on_each! {
    files, rados =>
        each_gets_its_errno,
}

/// One request: to whom, what, and its data.
struct Lie {
    what: &'static str,
    port: PortNo,
    request: Request,
    data: Vec<u8>,
    errno: i32,
}

/// `bytes` with the number at `at` replaced.
fn claiming(mut bytes: Vec<u8>, at: usize, number: u32) -> Vec<u8> {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn one_object() -> Vec<u8> {
    CreateRequest {
        block_size: 0,
        flags: 0,
        objects: vec![CreateObject {
            name: name("object-1"),
            flags: 0,
        }],
    }
    .encode()
}

fn lies(ports: client::Ports) -> Vec<Lie> {
    let of = |operation, target| Request::new(operation, name(target));
    let sized = |operation, target, offset, size| Request {
        offset,
        size,
        ..of(operation, target)
    };
    let lie = |what, port, request, data| Lie {
        what,
        port,
        request,
        data,
        errno: libc::EINVAL,
    };
    let other = NameRequest(name("volume-2")).encode().to_vec();
    let clone = CloneRequest {
        parent: name("snapshot-1"),
        size: 0,
    };
    let clone = clone.encode().to_vec();
    let (read, write) = (Operation::Read, Operation::Write);
    vec![
        lie(
            "more than its data",
            ports.vlmcd,
            sized(write, "volume-1", 0, 4097),
            vec![1; 4096],
        ),
        lie(
            "the most there is",
            ports.vlmcd,
            sized(write, "volume-1", 0, u64::MAX),
            vec![1; 4096],
        ),
        lie(
            "room for less",
            ports.vlmcd,
            sized(read, "volume-1", 0, 4097),
            vec![1; 4096],
        ),
        lie(
            "no room at all",
            ports.vlmcd,
            sized(read, "volume-1", 0, 1),
            vec![],
        ),
        lie(
            "an end that wraps",
            ports.vlmcd,
            sized(write, "volume-1", u64::MAX, 2),
            vec![1; 2],
        ),
        lie(
            "an object's write",
            ports.blockerb,
            sized(write, "object-1", 0, 513),
            vec![1; 512],
        ),
        lie(
            "an object's read",
            ports.blockerm,
            sized(read, "volume-1", 0, 513),
            vec![1; 512],
        ),
        lie(
            "the end of a map",
            ports.mapperd,
            sized(Operation::MapRead, "volume-1", SIZE, 1),
            vec![],
        ),
        lie(
            "a wrapping map",
            ports.mapperd,
            sized(Operation::MapWrite, "volume-1", 1, u64::MAX),
            vec![],
        ),
        lie(
            "no name of a snapshot",
            ports.vlmcd,
            of(Operation::Snapshot, "volume-1"),
            vec![],
        ),
        lie(
            "half a name",
            ports.vlmcd,
            of(Operation::Snapshot, "volume-1"),
            other[..130].to_vec(),
        ),
        lie(
            "a name of 257 bytes",
            ports.vlmcd,
            of(Operation::Rename, "volume-1"),
            claiming(other.clone(), 256, 257),
        ),
        lie(
            "a name of 4 GiB",
            ports.mapperd,
            of(Operation::Rename, "volume-1"),
            claiming(other.clone(), 256, u32::MAX),
        ),
        lie(
            "an object's name of 4 GiB",
            ports.blockerb,
            sized(Operation::Copy, "object-1", 0, 512),
            claiming(other, 256, u32::MAX),
        ),
        lie(
            "a clone cut off",
            ports.mapperd,
            of(Operation::Clone, "volume-2"),
            clone[..271].to_vec(),
        ),
        lie(
            "a parent of 4 GiB",
            ports.mapperd,
            of(Operation::Clone, "volume-2"),
            claiming(clone, 256, u32::MAX),
        ),
        lie(
            "two objects in the room of one",
            ports.mapperd,
            sized(Operation::Create, "volume-2", 0, 8 << 20),
            claiming(one_object(), 0, 2),
        ),
        lie(
            "four billion objects",
            ports.mapperd,
            sized(Operation::Create, "volume-2", 0, u64::MAX),
            claiming(one_object(), 0, u32::MAX),
        ),
        lie(
            "blocks of 3 MiB",
            ports.mapperd,
            sized(Operation::Create, "volume-2", 0, 512),
            claiming(one_object(), 4, 3 << 20),
        ),
        lie(
            "an object's name of 257 bytes",
            ports.mapperd,
            sized(Operation::Create, "volume-2", 0, 512),
            claiming(one_object(), 268, 257),
        ),
        Lie {
            errno: libc::EOPNOTSUPP,
            ..lie(
                "no operation",
                ports.vlmcd,
                Request {
                    op: 9999,
                    ..of(read, "volume-1")
                },
                vec![1; 16],
            )
        },
        Lie {
            errno: libc::EOPNOTSUPP,
            ..lie(
                "somebody else's operation",
                ports.mapperd,
                sized(write, "volume-1", 0, 16),
                vec![1; 16],
            )
        },
        Lie {
            errno: libc::EROFS,
            ..lie(
                "flags that only peers set",
                ports.vlmcd,
                Request {
                    flags: flags::FRESH | flags::UNDER_LOCK | flags::WHOLE,
                    ..sized(write, "snapshot-1", 0, 16)
                },
                vec![1; 16],
            )
        },
    ]
}

fn each_gets_its_errno(storage: &Storage) {
    let node = Victim::in_use(storage);
    for lie in lies(node.client.ports()) {
        let call = node.client.call(lie.port, lie.request, &lie.data, 0);
        let answer = node.client.block_on(call).map(|reply| reply.serviced);
        assert_eq!(answer, Err(lie.errno), "{}", lie.what);
        node.is_unchanged(lie.what);
    }
    node.end();
}
