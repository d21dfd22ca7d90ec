//! The bytes that the OSDs' object class `lock` takes and gives (`src/cls/lock` of Ceph).
//!
//! Everything is little-endian. A structure is version, oldest compatible version, length of the
//! rest; a reader skips what a newer writer put behind what it knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The lock's name and cookie, as the original's (`spec/protocol.md` section 2).
pub(crate) const LOCK: &str = "RadosLock";
pub(crate) const COOKIE: &str = "foo";

/// CLS_LOCK_EXCLUSIVE.
const EXCLUSIVE: u8 = 1;
/// CEPH_ENTITY_TYPE_CLIENT.
const CLIENT: u8 = 8;

/// What a taker may find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// Nobody's lock, or its own (LOCK_FLAG_MAY_RENEW).
    May = 1,
    /// Only its own (LOCK_FLAG_MUST_RENEW); ENOENT when it is not.
    Must = 2,
}

/// Who holds a lock, as the OSD knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Locker {
    /// The `4123` of `client.4123`.
    pub(crate) instance: u64,
    pub(crate) cookie: String,
    /// `1.2.3.4:0/5`.
    pub(crate) address: String,
    pub(crate) description: String,
}

/// The argument of `lock`.
pub(crate) fn lock(description: &str, renewal: Renewal) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(LOCK);
    body.0.push(EXCLUSIVE);
    body.text(COOKIE);
    body.text("");
    body.text(description);
    // It never expires.
    body.number(0);
    body.number(0);
    body.0.push(renewal as u8);
    body.structure()
}

/// The argument of `unlock`.
pub(crate) fn unlock() -> Vec<u8> {
    let mut body = Writer::default();
    body.text(LOCK);
    body.text(COOKIE);
    body.structure()
}

/// The argument of `break_lock`.
pub(crate) fn break_lock(locker: &Locker) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(LOCK);
    body.0.push(CLIENT);
    body.0.extend(locker.instance.to_le_bytes());
    body.text(&locker.cookie);
    body.structure()
}

/// The argument of `get_info`.
pub(crate) fn get_info() -> Vec<u8> {
    let mut body = Writer::default();
    body.text(LOCK);
    body.structure()
}

/// The answer of `get_info`: all lockers, of which an exclusive lock has one or none. `None`: it
/// makes no sense.
pub(crate) fn lockers(answer: &[u8]) -> Option<Vec<Locker>> {
    let mut body = Reader(answer).structure()?;
    let count = body.number()?;
    (0..count).map(|_| locker(&mut body)).collect()
}

fn locker(from: &mut Reader<'_>) -> Option<Locker> {
    let mut id = from.structure()?;
    let _kind = id.byte()?;
    let instance = u64::from_le_bytes(id.array()?);
    let cookie = id.text()?;
    let mut info = from.structure()?;
    let _expiration: [u8; 8] = info.array()?;
    let address = info.address()?;
    let description = info.text()?;
    Some(Locker {
        instance,
        cookie,
        address,
        description,
    })
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u32);
        self.0.extend(text.as_bytes());
    }

    /// Version 1, readable by version 1.
    fn structure(self) -> Vec<u8> {
        let mut whole = vec![1, 1];
        whole.extend((self.0.len() as u32).to_le_bytes());
        whole.extend(self.0);
        whole
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn text(&mut self) -> Option<String> {
        let len = self.number()?;
        let bytes = self.bytes(len as usize)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    fn structure(&mut self) -> Option<Reader<'a>> {
        let _versions: [u8; 2] = self.array()?;
        let len = self.number()?;
        self.bytes(len as usize).map(Reader)
    }

    /// An `entity_addr_t`: since Ceph 12 marked with a 1; before, with the family in network order
    /// in a `sockaddr_storage`.
    fn address(&mut self) -> Option<String> {
        if self.byte()? == 0 {
            let _rest_of_kind: [u8; 3] = self.array()?;
            let nonce = self.number()?;
            let socket = self.bytes(128)?;
            let family = u16::from_be_bytes([socket[0], socket[1]]);
            return socket_address(family, &socket[2..], nonce);
        }
        let mut inside = self.structure()?;
        let _kind = inside.number()?;
        let nonce = inside.number()?;
        let len = inside.number()?;
        let mut socket = Reader(inside.bytes(len as usize)?);
        let family = socket.array().map_or(0, u16::from_le_bytes);
        socket_address(family, socket.0, nonce)
    }
}

/// `rest` is what stands behind the family in a `sockaddr`.
fn socket_address(family: u16, rest: &[u8], nonce: u32) -> Option<String> {
    let port = u16::from_be_bytes(rest.get(..2)?.try_into().ok()?);
    let address = match i32::from(family) {
        libc::AF_INET => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(rest.get(2..6)?).ok()?)),
        libc::AF_INET6 => {
            IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(rest.get(6..22)?).ok()?))
        }
        _ => return None,
    };
    Some(match address {
        IpAddr::V4(four) => format!("{four}:{port}/{nonce}"),
        IpAddr::V6(six) => format!("[{six}]:{port}/{nonce}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(address: &[u8]) -> Vec<u8> {
        let mut id = Writer::default();
        id.0.push(CLIENT);
        id.0.extend(4123u64.to_le_bytes());
        id.text(COOKIE);
        let mut info = Writer::default();
        info.0.extend([0; 8]);
        info.0.extend(address);
        info.text("said");
        let mut body = Writer::default();
        body.number(1);
        body.0.extend(id.structure());
        body.0.extend(info.structure());
        body.0.push(EXCLUSIVE);
        body.text("");
        body.structure()
    }

    #[test]
    fn both_kinds_of_addresses_are_read() {
        let socket = [&[0x12u8, 0x34, 10, 0, 0, 7][..], &[0; 8]].concat();
        let mut new = Writer::default();
        new.number(1);
        new.number(77);
        new.number(16);
        new.0.extend((libc::AF_INET as u16).to_le_bytes());
        new.0.extend(&socket);
        let new = [&[1u8][..], &new.structure()].concat();
        let mut old = vec![0, 0, 0, 0, 77, 0, 0, 0, 0, libc::AF_INET as u8];
        old.extend(&socket);
        old.resize(8 + 128, 0);
        for address in [new, old] {
            let found = lockers(&answer(&address)).unwrap().remove(0);
            assert_eq!(found.address, "10.0.0.7:4660/77");
            assert_eq!((found.instance, &*found.description), (4123, "said"));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let whole = answer(&[1, 1, 1, 0, 0, 0, 0]);
        for len in 0..whole.len() {
            assert_eq!(lockers(&whole[..len]), None);
        }
    }
}
