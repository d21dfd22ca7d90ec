//! Why an operation failed, in more words than an errno has: a look at the map itself, or at the
//! objects that it names, names what is at fault.
//!
//! It looks only after a failure, and changes nothing. Where it finds nothing wrong, the errno's own
//! sentence is all there is to say.

use super::blocks;
use crate::failure::Failure;
use client::{Client, ErrorKind, Hint, Name};
use mapfile::FormatError;
use mapfile::name::{ARCHIP_PREFIX, is_hash_name};
use mapfile::recognise::{HEAD_LEN, Recognised, V0Hint, recognise};
use xseg::Request;
use xseg::protocol::Operation;

/// The sentence that scripts look for, and what is at fault: the map `name`, if it is no map that
/// `hint` lets anybody read, else what the node says.
pub(super) fn because<'a>(
    client: &'a Client,
    (name, hint): (Name, Hint),
    sentence: &'static str,
) -> impl Fn(client::Error) -> Failure + 'a {
    move |error| {
        let looks = matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Io);
        match looks.then(|| fault(client, name, hint)).flatten() {
            Some(fault) => Failure::new(format!("{sentence}: {name}: {fault}")),
            None => Failure::because(sentence)(error),
        }
    }
}

/// The same after a read at `offset` that failed: names the block that is missing there.
pub(super) fn because_of_block<'a>(
    client: &'a Client,
    (name, hint): (Name, Hint),
    (offset, len): (u64, u64),
    sentence: &'static str,
) -> impl Fn(client::Error) -> Failure + 'a {
    move |error| {
        let missing = (error.kind() == ErrorKind::Io)
            .then(|| missing_block(client, (name, hint), (offset, len)));
        match missing.flatten() {
            Some((block, at)) => {
                let text = format!("{sentence}: {name}: block {block} at {at} is missing");
                Failure::new(text)
            }
            None => because(client, (name, hint), sentence)(error),
        }
    }
}

/// The first block of Pithos in a range that is not there, and its offset.
fn missing_block(
    client: &Client,
    (name, hint): (Name, Hint),
    (offset, len): (u64, u64),
) -> Option<(Name, u64)> {
    let mut at = offset;
    for segment in blocks::segments(client, (name, hint), offset, len).ok()? {
        let is_block = is_hash_name(&segment.name) && !blocks::is_zero(&segment);
        if is_block && blocks::look_at(client, segment.name) == Err(libc::ENOENT) {
            return Some((segment.name, at));
        }
        at += segment.size;
    }
    None
}

/// What is wrong with the header of a map, under its own name or that of 0.3.
fn fault(client: &Client, name: Name, hint: Hint) -> Option<FormatError> {
    let old = Name::new(&[ARCHIP_PREFIX, name.as_bytes()].concat());
    let mut headers = [Some(name), old].into_iter().flatten();
    let (header, len) = headers.find_map(|header| Some((header, size(client, header)?)))?;
    let head = read(client, header, 0, HEAD_LEN as u64)?;
    let v0 = hint.assume_v0.then_some(V0Hint { size: hint.v0_size });
    match recognise(&head, len, v0) {
        Ok(Recognised::V0Tail(tail)) => {
            let range = tail.range();
            let end = read(client, header, range.start, range.end - range.start)?;
            tail.settle(&end).err()
        }
        other => other.err(),
    }
}

fn size(client: &Client, object: Name) -> Option<u64> {
    let request = Request::new(Operation::Info, object);
    let call = client.call(client.ports().blockerm, request, &[], 8);
    let reply = client.block_on(call).ok()?;
    let bytes = reply.bytes.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

fn read(client: &Client, object: Name, offset: u64, size: u64) -> Option<Vec<u8>> {
    let request = Request {
        offset,
        size,
        ..Request::new(Operation::Read, object)
    };
    let call = client.call(client.ports().blockerm, request, &[], size as usize);
    Some(client.block_on(call).ok()?.bytes)
}
