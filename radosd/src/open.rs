//! Opening a pool: who we are, which pool it is, and whether we may write to it.

use crate::client::Client;
use crate::completions::Completions;
use crate::config::{Config, OpenError};
use crate::core::Core;
use crate::driver::{NOTHING, Radosd};
use crate::locks::{Locks, Neighbours, Record, Registry};
use crate::sys::Pool;
use driver::{Errno, Name, Registration};
use reactor::Reactor;
use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long the first write may take before we go on without it: an OSD may be away.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn open(config: Config, reactor: &Reactor) -> Result<Radosd, OpenError> {
    let client = Client::shared(&config)?;
    let completions = Completions::new(&reactor.ring).map_err(OpenError::Reactor)?;
    let pool = open_pool(&config, &client, &completions)?;
    let id = identify(&config, &client, &pool)?;
    let neighbours = Neighbours::new(&reactor.ring, &config.run_dir)
        .map_err(|why| record_failed(&config.run_dir)(why.into()))?;
    let locks = locks(&config, &client)?;
    cut_off_predecessors(&client, &locks.registry)?;
    let now = reactor.env.clock.now_ns();
    locks.note(|record| record.failed.are_cut_off(now));
    let core = Rc::new(Core::new(Arc::new(pool), client, &config, locks, reactor));
    let mut driver = Radosd::new(core.clone(), completions, id, neighbours);
    probe(&config, reactor, &core, &mut driver)?;
    core.begin_locks();
    Ok(driver)
}

fn record_failed(file: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let file = file.to_owned();
    move |source| OpenError::Record { file, source }
}

/// Puts this client where the others of the node find it.
fn locks(config: &Config, client: &Client) -> Result<Locks, OpenError> {
    let failed = || record_failed(&config.run_dir);
    let registration =
        Registration::new(Some(config.run_dir.clone())).map_err(record_failed("/proc".as_ref()))?;
    let record = Record {
        role: config.role.clone(),
        pool: config.pool.clone(),
        process: registration.0.to_text(),
        addresses: client.addresses.clone(),
        ..Record::default()
    };
    let registry = Registry::open(&config.run_dir, record).map_err(failed())?;
    Ok(Locks::new(&config.owner, registration, registry))
}

/// Nothing of a dead instance of this role lands any more; nothing is done in its place before.
fn cut_off_predecessors(client: &Client, registry: &Registry) -> Result<(), OpenError> {
    let former = registry.former();
    for address in &former {
        client.blocklist(address).map_err(|why| match why {
            Errno::ACCES | Errno::PERM => OpenError::MayNotBlocklist {
                user: client.user.clone(),
                address: address.clone(),
                advice: client.advice(),
            },
            source => OpenError::Rados {
                doing: format!("{address}, a dead predecessor, cannot be blocklisted"),
                source,
            },
        })?;
    }
    registry
        .settle(&former)
        .map_err(record_failed(registry.file()))
}

fn open_pool(
    config: &Config,
    client: &Client,
    completions: &Completions,
) -> Result<Pool, OpenError> {
    let sink = completions.mailbox().clone();
    client
        .cluster
        .pool(&config.pool, sink)
        .map_err(|why| match why {
            Errno::NOENT => OpenError::NoPool {
                pool: config.pool.clone(),
            },
            source => OpenError::Rados {
                doing: format!("pool: {} cannot be opened", config.pool),
                source,
            },
        })
}

fn identify(config: &Config, client: &Client, pool: &Pool) -> Result<String, OpenError> {
    let found = format!("{}/{}", client.fsid, pool.id());
    match &config.expected_id {
        Some(expected) if *expected != found => Err(OpenError::OtherPool {
            pool: config.pool.clone(),
            found,
            expected: expected.clone(),
        }),
        _ => Ok(found),
    }
}

/// Removes an object that never exists: an OSD looks at capabilities first.
fn probe(
    config: &Config,
    reactor: &Reactor,
    core: &Rc<Core>,
    driver: &mut Radosd,
) -> Result<(), OpenError> {
    let answer = Rc::new(Cell::new(None));
    let (theirs, asking) = (answer.clone(), core.clone());
    let until = reactor.env.clock.now_ns() + PATIENCE.as_nanos() as u64;
    core.executor.spawn(async move {
        let nothing = Name::try_from(NOTHING).expect("a name");
        theirs.set(Some(asking.remove(&nothing).await));
    });
    let found = loop {
        driver.turn();
        if let Some(found) = answer.take() {
            break found;
        }
        let now = reactor.env.clock.now_ns();
        if now >= until {
            tracing::warn!(pool = config.pool, "the pool does not answer; going on");
            return Ok(());
        }
        reactor
            .turn_or_wait(Some(until - now))
            .map_err(OpenError::Reactor)?;
    };
    match found {
        Err(Errno::PERM | Errno::ACCES) => Err(OpenError::MayNotWrite {
            user: config.user(),
            pool: config.pool.clone(),
        }),
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::TIMEDOUT) => {
            tracing::warn!(pool = config.pool, "the pool does not answer; going on");
            Ok(())
        }
        Err(source) => Err(OpenError::Rados {
            doing: format!("pool: {} does not take a write", config.pool),
            source,
        }),
    }
}
