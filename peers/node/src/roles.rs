//! From the description of a role to a peer.

use crate::served::Served;
use config::paths::Places;
use config::{FileBlocker, RadosBlocker, Role, RoleKind};
use driver::{Driver, HashAlgorithm};
use filed::{DrainLock, Filed, OpenError};
use reactor::Reactor;
use runtime::{Desk, LeaseTerm, Peer};

/// Why a role can't be had.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// Its storage is not usable.
    #[error("{role}: {sentence}")]
    Storage {
        /// The role.
        role: String,
        /// Why.
        sentence: String,
    },
    /// Its type is not part of this build.
    #[error("{role}: the type {kind} is not part of this build; {advice}")]
    Missing {
        /// The role.
        role: String,
        /// Its type.
        kind: &'static str,
        /// What to do.
        advice: &'static str,
    },
}

/// What a node is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// To serve.
    Serve,
    /// To read what is in storage while no node serves it: it leaves no file behind, whose owner
    /// might be another than the node's user.
    Look,
}

/// Makes the peer of `role` at `desk`. `places` are where a driver keeps what must outlive it.
pub fn make(
    role: &Role,
    desk: Desk,
    reactor: &Reactor,
    places: &Places,
    purpose: Purpose,
) -> Result<Box<dyn Peer>, RoleError> {
    Ok(match &role.kind {
        RoleKind::FileBlocker(files) => {
            let driver = files_driver(role, files, reactor, places, purpose)?;
            let (hash, ttl) = (files.hash_algorithm, files.lock_ttl_s);
            Box::new(blocker(role, hash, ttl, desk, driver, reactor))
        }
        RoleKind::Mapperd(maps) => Box::new(mapper(role, maps, desk, reactor)),
        RoleKind::Vlmcd(volumes) => Box::new(composer(role, volumes, desk, reactor)),
        RoleKind::RadosBlocker(rados) => {
            let driver = rados_driver(role, rados, reactor, places, purpose)?;
            let (hash, ttl) = (rados.hash_algorithm, rados.lock_ttl_s);
            Box::new(blocker(role, hash, ttl, desk, driver, reactor))
        }
        RoleKind::Poold(_) => {
            return Err(RoleError::Missing {
                role: role.name.clone(),
                kind: "poold",
                advice: "it is a program of its own",
            });
        }
    })
}

/// A blocker over any driver; leases are good for `lock_ttl_s` seconds.
pub fn blocker(
    role: &Role,
    algorithm: config::HashAlgorithm,
    lock_ttl_s: u32,
    desk: Desk,
    driver: Box<dyn Driver>,
    reactor: &Reactor,
) -> blocker::Blocker {
    let settings = blocker::Settings {
        role: role.name.clone(),
        nr_ops: role.nr_ops as usize,
        hash_algorithm: hash_algorithm(algorithm),
        lease_term: LeaseTerm::from_secs(lock_ttl_s),
    };
    blocker::Blocker::new(
        settings,
        desk,
        driver,
        reactor.env.clone(),
        reactor.timers.clone(),
        reactor.executor.clone(),
    )
}

fn hash_algorithm(algorithm: config::HashAlgorithm) -> HashAlgorithm {
    match algorithm {
        config::HashAlgorithm::Sha256 => HashAlgorithm::Sha256,
        config::HashAlgorithm::Blake2b256 => HashAlgorithm::Blake2b,
    }
}

fn composer(role: &Role, volumes: &config::Vlmcd, desk: Desk, reactor: &Reactor) -> vlmcd::Vlmcd {
    let settings = vlmcd::Settings {
        mapper_port: volumes.mapper_port.0,
        blocker_port: volumes.blocker_port.0,
        nr_ops: role.nr_ops as usize,
        write_through: volumes.write_through,
        lease_term: LeaseTerm::from_secs(volumes.lock_ttl_s),
    };
    vlmcd::Vlmcd::new(settings, desk, reactor.env.clone())
}

/// The files driver of a blocker: first its drain lock, because nothing may be done in the place
/// of a predecessor that still writes; then the directory, which must be the one it served before.
fn files_driver(
    role: &Role,
    files: &FileBlocker,
    reactor: &Reactor,
    places: &Places,
    purpose: Purpose,
) -> Result<Box<dyn Driver>, RoleError> {
    let storage = |sentence: String| RoleError::Storage {
        role: role.name.clone(),
        sentence,
    };
    let serves = purpose == Purpose::Serve;
    if serves {
        let lock = places.run_dir.join(format!("{}.drain", role.name));
        DrainLock::acquire(&lock)
            .and_then(|held| held.register(&reactor.ring))
            .map_err(|why| storage(format!("can't take {}: {why}", lock.display())))?;
    }
    let served = Served::of(&places.state_dir, files.archip_dir.as_os_str());
    let unknown = |what, why| storage(format!("can't {what} {}: {why}", served.file().display()));
    let expected_id = served.id().map_err(|why| unknown("read", why))?;
    let driver = Filed::open(
        filed::Config {
            dir: files.archip_dir.clone(),
            lock_dir: files.lock_dir.clone(),
            owner: role.owner(),
            run_dir: std::path::absolute(&places.run_dir).ok(),
            held_dir: Some(places.run_dir.join(format!("{}.held", role.name))),
            direct: files.direct,
            fdcache: files.fdcache as usize,
            // Who only looks moves nothing: the directories that it made would be its own.
            pithos_migrate: files.pithos_migrate && serves,
            expected_id,
            mark: serves,
        },
        reactor,
    )
    .map_err(|why| storage(with_sources(&why) + &advice(&why, &served)))?;
    if serves {
        let remembered = served.remember(driver.id());
        remembered.map_err(|why| unknown("write", why))?;
    }
    Ok(Box::new(driver))
}

/// What to do when a directory is another one on purpose.
fn advice(why: &OpenError, served: &Served) -> String {
    match why {
        OpenError::MarkerGone { .. } | OpenError::MarkerDiffers { .. } => served.advice(),
        _ => String::new(),
    }
}

#[cfg(feature = "rados")]
fn rados_driver(
    role: &Role,
    rados: &RadosBlocker,
    reactor: &Reactor,
    places: &Places,
    purpose: Purpose,
) -> Result<Box<dyn Driver>, RoleError> {
    crate::pools::driver(role, rados, reactor, places, purpose).map_err(|sentence| {
        RoleError::Storage {
            role: role.name.clone(),
            sentence,
        }
    })
}

#[cfg(not(feature = "rados"))]
fn rados_driver(
    role: &Role,
    _: &RadosBlocker,
    _: &Reactor,
    _: &Places,
    _: Purpose,
) -> Result<Box<dyn Driver>, RoleError> {
    Err(RoleError::Missing {
        role: role.name.clone(),
        kind: "rados_blocker",
        advice: "install the package archipelago-rados, or build with --features archip-node/rados",
    })
}

/// An error with its causes, in one sentence.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        sentence += &format!(": {why}");
        cause = why.source();
    }
    sentence
}

fn mapper(role: &Role, maps: &config::Mapperd, desk: Desk, reactor: &Reactor) -> mapperd::Mapperd {
    let settings = mapperd::Config {
        map_version: maps.map_version,
        nr_ops: role.nr_ops as usize,
        blockerm_port: maps.blockerm_port.0,
        blockerb_port: maps.blockerb_port.0,
        lease_term: LeaseTerm::from_secs(maps.lock_ttl_s),
    };
    let mapper = mapperd::Mapperd::new(
        settings,
        desk,
        reactor.executor.clone(),
        reactor.timers.clone(),
        reactor.env.clone(),
    );
    match maps.hash_algorithm {
        config::HashAlgorithm::Sha256 => mapper,
        config::HashAlgorithm::Blake2b256 => mapper.with_merkle(blake2b256),
    }
}

fn blake2b256(bytes: &[u8]) -> [u8; 32] {
    use blake2::Digest as _;
    blake2::Blake2b256::digest(bytes).into()
}
