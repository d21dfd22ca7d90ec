//! Opening a directory: what it can do is found out once, here.

use crate::cache::Cache;
use crate::config::{Config, OpenError};
use crate::content::Hashers;
use crate::core::Core;
use crate::driver::Filed;
use crate::fs::{self, Fs};
use crate::leftovers;
use crate::locks::Locks;
use crate::marker;
use crate::moves::Moves;
use crate::notes::Notes;
use crate::spot::Spot;
use crate::tags::Tags;
use driver::Registration;
use reactor::Reactor;
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

impl Filed {
    /// Opens a directory, on the reactor of this thread.
    pub fn open(config: Config, reactor: &Reactor) -> Result<Filed, OpenError> {
        check_owner(&config.owner)?;
        let root = open_dir(&config.dir)?;
        if let Some(dir) = &config.lock_dir {
            open_dir(dir)?;
        }
        let entropy = &*reactor.env.entropy;
        let expected = config.expected_id.as_deref();
        let marker = marker::identify(&config.dir, expected, config.mark, entropy)?;
        let block = block_size(&config, &root);
        let write_through = !syncs_whole(&root);
        let locks = locks(&config, block)?;
        if locks.flat {
            leftovers::sweep(&locks.dir, &locks.owner, &locks.registration.0);
        }
        let core = Core {
            cache: RefCell::new(Cache::new(config.fdcache)),
            tags: Tags::new(marker.is_new, config.fdcache),
            spot: Spot::probe(&root, block),
            locks: Arc::new(locks),
            moves: Moves::default(),
            hashers: hashers(reactor)?,
            fs: Fs {
                ring: reactor.ring.clone(),
                offload: reactor.offload.clone(),
                root: Arc::new(root),
                block,
            },
            config,
            executor: reactor.executor.clone(),
            timers: reactor.timers.clone(),
            env: reactor.env.clone(),
            write_through,
            names: RefCell::default(),
            done: RefCell::default(),
        };
        Ok(Filed::new(Rc::new(core), marker.id))
    }
}

fn hashers(reactor: &Reactor) -> Result<Hashers, OpenError> {
    Hashers::new(&reactor.ring, &reactor.executor).map_err(OpenError::Hashers)
}

fn check_owner(owner: &str) -> Result<(), OpenError> {
    let fits = (1..=100).contains(&owner.len()) && !owner.contains(['/', '\0']);
    fits.then_some(()).ok_or(OpenError::Owner)
}

fn open_dir(dir: &Path) -> Result<OwnedFd, OpenError> {
    let opened = std::fs::File::open(dir).and_then(|file| {
        if !file.metadata()?.is_dir() {
            return Err(std::io::ErrorKind::NotADirectory.into());
        }
        Ok(OwnedFd::from(file))
    });
    let dir = dir.to_owned();
    opened.map_err(|source| OpenError::Dir { dir, source })
}

fn block_size(config: &Config, root: &OwnedFd) -> u64 {
    if !config.direct {
        return 1;
    }
    fs::direct_block(root).unwrap_or_else(|| {
        let dir = config.dir.display();
        tracing::warn!(%dir, "this filesystem has no O_DIRECT; going through the page cache");
        1
    })
}

fn locks(config: &Config, block: u64) -> Result<Locks, OpenError> {
    let dir = config.lock_dir.as_ref().unwrap_or(&config.dir).clone();
    let registration = Registration::new(config.run_dir.clone()).map_err(|source| {
        let dir = "/proc".into();
        OpenError::Dir { dir, source }
    })?;
    let boot = &registration.0.process.boot;
    let notes = Notes::new(config.held_dir.clone(), boot);
    Ok(Locks {
        dir,
        flat: config.lock_dir.is_some(),
        owner: config.owner.as_bytes().to_vec(),
        padded: block > 1,
        registration,
        held: Default::default(),
        notes,
    })
}

/// Filesystems whose `syncfs` makes everything durable; a FUSE mount's, for one, does not.
fn syncs_whole(root: &OwnedFd) -> bool {
    const BCACHEFS: i64 = 0xca45_1a4e;
    const ZFS: i64 = 0x2fc1_2fc1;
    let known = [
        libc::EXT4_SUPER_MAGIC,
        libc::XFS_SUPER_MAGIC,
        libc::BTRFS_SUPER_MAGIC,
        libc::TMPFS_MAGIC,
        libc::F2FS_SUPER_MAGIC,
        libc::NFS_SUPER_MAGIC,
        libc::OVERLAYFS_SUPER_MAGIC,
        BCACHEFS,
        ZFS,
    ];
    nix::sys::statfs::fstatfs(root).is_ok_and(|stat| known.contains(&stat.filesystem_type().0))
}
