//! What is read of locks in a cluster, which anybody may have written, as plain functions, for
//! proptest, a stored corpus and libFuzzer alike. A target panics when a promise is broken, and
//! returns otherwise.

use super::description::{Description, Found};
use super::wire::{self, COOKIE, LOCK, Locker, Renewal};
use crate::address::{bare, is_instance};
use driver::Mark;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets by name; the corpus of each is in `corpus/NAME`.
pub const TARGETS: &[(&str, Target)] = &[
    ("lockers", lockers),
    ("description", description),
    ("address", address),
];

/// The answer about a lock. What a newer writer puts behind it changes nothing; whoever was found is
/// named rightly to the one who is to break the lock.
pub fn lockers(data: &[u8]) {
    let found = wire::lockers(data);
    let Some(lockers) = found else { return };
    let longer = [data, b"what comes later"].concat();
    assert_eq!(wire::lockers(&longer).as_ref(), Some(&lockers));
    // Each takes more than a few bytes, so that a large count is no large answer.
    assert!(lockers.len() <= data.len() / 32);
    for locker in &lockers {
        let breaks = wire::break_lock(locker);
        let (head, body) = breaks.split_at(6);
        assert_eq!(head[2..], (body.len() as u32).to_le_bytes());
        let named = &body[4 + LOCK.len()..];
        assert_eq!(named[1..9], locker.instance.to_le_bytes());
        assert!(named[13..] == *locker.cookie.as_bytes());
        // The OSD says where it is, so it can always be told whom to cut off, unless it is nobody.
        assert_eq!(bare(&locker.address), locker.address);
        let has_nonce = !locker.address.ends_with("/0");
        assert_eq!(
            is_instance(&locker.address),
            has_nonce,
            "{}",
            locker.address
        );
    }
}

fn found(description: String) -> Found {
    Found::new(Locker {
        instance: 4123,
        cookie: COOKIE.into(),
        address: "10.0.0.7:0/77".into(),
        description,
    })
}

/// Another process of this host.
fn us() -> Mark {
    Mark::from_text("1 1 00000000-0000-0000-0000-000000000000 1").expect("a mark")
}

/// What stands in a lock: any text. Whatever it is, the locker itself is among those that are cut
/// off, each of whom is named once, and a description that was understood is what is written again.
pub fn description(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lock = found(text.to_owned());
    let addresses = lock.addresses();
    let bares: Vec<_> = addresses.iter().map(|address| bare(address)).collect();
    assert!(bares.contains(&"10.0.0.7:0/77"));
    assert!(bares.windows(2).all(|two| two[0] < two[1]), "each once");
    let pools = lock.pools();
    assert!(pools.windows(2).all(|two| two[0] < two[1]));
    let holder = lock.holder(&us(), false);
    assert_eq!(holder.addresses, addresses);
    assert!(!holder.ours);
    match &lock.said {
        None => assert_eq!(holder.owner, b"client.4123"),
        Some(said) => is_written_again(said),
    }
}

fn is_written_again(said: &Description) {
    let text = said.to_text();
    assert!(!text.contains('\n'), "one line");
    assert_eq!(found(text.clone()).said.as_ref(), Some(said));
    // As the argument of `lock` it is one text among others.
    let argument = wire::lock(&text, Renewal::May);
    assert_eq!(argument[2..6], (argument.len() as u32 - 6).to_le_bytes());
    let at = argument.len() - text.len() - 9;
    assert_eq!(argument[at - 4..at], (text.len() as u32).to_le_bytes());
    assert!(argument[at..].starts_with(text.as_bytes()));
}

/// Whom a lock says to cut off. What is believed goes into a command to the monitors as it is, and
/// names one instance.
pub fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if !is_instance(text) {
        return;
    }
    assert!(
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".:[]/%".contains(&byte))
    );
    let (socket, nonce) = text.rsplit_once('/').expect("a number");
    assert_ne!(nonce.parse::<u32>(), Ok(0));
    assert!(!socket.contains('/'));
}
