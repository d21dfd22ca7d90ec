//! The RADOS driver of a blocker: over the pool that this node has served before, and for who only
//! looks without a trace.

use crate::roles::{Purpose, with_sources};
use crate::served::Served;
use config::paths::Places;
use config::{RadosBlocker, Role};
use driver::{Capabilities, Done, Driver, Name, Op, OpId};
use radosd::{Config, OpenError, Radosd};
use reactor::Reactor;
use std::ffi::OsString;
use std::path::Path;
use tempfile::TempDir;

/// Opens the pool of `role`. The driver cuts off a dead predecessor itself; and the pool must be
/// the one that was served before. Else: a sentence.
pub(crate) fn driver(
    role: &Role,
    rados: &RadosBlocker,
    reactor: &Reactor,
    places: &Places,
    purpose: Purpose,
) -> Result<Box<dyn Driver>, String> {
    let served = Served::of(&places.state_dir, what(rados));
    let unknown = |verb, why| format!("can't {verb} {}: {why}", served.file().display());
    let expected_id = served.id().map_err(|why| unknown("read", why))?;
    let refused = |why: OpenError| {
        let advice = match why {
            OpenError::OtherPool { .. } => served.advice(),
            _ => String::new(),
        };
        with_sources(&why) + &advice
    };
    if purpose == Purpose::Look {
        let dir = tempfile::tempdir().map_err(|why| format!("no folder for a moment: {why}"))?;
        let config = config(role, rados, dir.path(), expected_id);
        let driver = Radosd::open(config, reactor).map_err(refused)?;
        return Ok(Box::new(Looker { driver, _dir: dir }));
    }
    let config = config(role, rados, &places.run_dir, expected_id);
    let driver = Radosd::open(config, reactor).map_err(refused)?;
    let remembered = served.remember(driver.id());
    remembered.map_err(|why| unknown("write", why))?;
    Ok(Box::new(driver))
}

/// What a pool is called among what was served: its name means nothing without the cluster.
fn what(rados: &RadosBlocker) -> OsString {
    let mut what = OsString::from(format!("the pool {} of ", rados.pool));
    what.push(&rados.ceph_conf);
    what
}

fn config(
    role: &Role,
    rados: &RadosBlocker,
    run_dir: &Path,
    expected_id: Option<String>,
) -> Config {
    Config {
        pool: rados.pool.clone(),
        cephx_id: rados.cephx_id.clone(),
        ceph_conf: rados.ceph_conf.clone(),
        owner: role.owner(),
        role: role.name.clone(),
        run_dir: run_dir.to_owned(),
        tag_of: |volume| xseg::Name::new(volume).map_or(0, |name| runtime::volume_tag(&name)),
        expected_id,
    }
}

/// Who reads while no node serves. What the node's clients know of each other stays as it is: else
/// the looker would take the place of a dead one, cut it off and take its locks over, and leave files
/// whose owner might be another than the node's user.
struct Looker {
    // Dropped first: it writes a last word there.
    driver: Radosd,
    _dir: TempDir,
}

impl Driver for Looker {
    fn submit(&mut self, id: OpId, op: Op) {
        self.driver.submit(id, op);
    }

    fn poll(&mut self, done: &mut Vec<Done>) {
        self.driver.poll(done);
    }

    fn capabilities(&self) -> Capabilities {
        self.driver.capabilities()
    }

    fn in_flight(&self) -> usize {
        self.driver.in_flight()
    }

    fn lock_is_held(&mut self, volume: &Name) -> bool {
        self.driver.lock_is_held(volume)
    }

    fn lost(&self) -> Option<String> {
        self.driver.lost()
    }
}
