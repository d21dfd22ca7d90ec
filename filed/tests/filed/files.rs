//! What lies in the directory: paths, modes, sizes, the old layouts, the marker, a full disk.

use crate::rig::{Files, SETTINGS, files, hash_name, name, put, write};
use driver::{Driver, Errno, Op, Tag};
use filed::{Filed, OpenError};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

#[test]
fn objects_lie_where_the_original_put_them() {
    for setting in SETTINGS {
        let dir = setting.dir();
        let mut it = Files::open(setting.config(dir.path(), "node_1"));
        it.write("goldvol1", 0, &[1; 32]).unwrap();
        // printf goldvol1 | sha256sum
        let path = dir.path().join("96/42/c5/goldvol1");
        let padded = it.driver.capabilities().size_multiple.max(32);
        assert_eq!(fs::metadata(&path).unwrap().size(), padded, "{setting:?}");
        assert_eq!(fs::read(&path).unwrap()[..32], [1; 32]);
        let umask = umask();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o666 & !umask);
        assert_eq!(mode(path.parent().unwrap()), 0o777 & !umask);
    }
}

fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    u32::from_str_radix(line.unwrap().trim(), 8).unwrap()
}

/// Descriptors of this process that lead into `dir`.
fn descriptors(dir: &Path) -> usize {
    let all = fs::read_dir("/proc/self/fd").unwrap();
    let links = all.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    links.filter(|link| link.starts_with(dir)).count()
}

#[test]
fn old_layouts_are_read_in_place() {
    for setting in SETTINGS {
        let dir = setting.dir();
        let pithos = format!("01/23/45/{}", hash_name());
        put(dir.path(), &pithos, b"a block");
        put(dir.path(), "le/ga/cy/archip_legacyv1b", b"a map");
        let mut it = Files::open(setting.config(dir.path(), "node_1"));
        assert_eq!(it.read(&hash_name(), 0, 10).unwrap(), b"a block\0\0\0");
        assert_eq!(it.read("archip_legacyv1b", 0, 5).unwrap(), b"a map");
        it.write(&hash_name(), 2, b"B").unwrap();
        assert_eq!(
            fs::read(dir.path().join(&pithos)).unwrap()[..7],
            *b"a Block"
        );
        assert_eq!(files(dir.path()).len(), 2, "nothing was made beside them");
    }
}

#[test]
fn the_marker_tells_an_unmounted_disk() {
    let setting = SETTINGS[0];
    let dir = setting.dir();
    let first = Files::open(setting.config(dir.path(), "node_1"));
    let mut config = setting.config(dir.path(), "node_1");
    config.expected_id = Some(first.driver.id().to_owned());
    let again = Filed::open(config.clone(), &first.reactor).unwrap();
    assert_eq!(again.id(), first.driver.id());
    fs::remove_file(dir.path().join(".archipelago")).unwrap();
    let gone = Filed::open(config, &first.reactor).err().unwrap();
    assert!(matches!(gone, OpenError::MarkerGone { .. }));
}

#[test]
fn a_bounded_cache_serves_more_objects_than_it_keeps() {
    for setting in SETTINGS {
        let dir = setting.dir();
        let mut config = setting.config(dir.path(), "node_1");
        config.fdcache = 4;
        let mut it = Files::open(config);
        for i in 0..100u8 {
            let object = format!("cached-object-{i}");
            it.ask(write(&object, 0, &[i; 4096], Tag(1 + u32::from(i) % 2)))
                .unwrap();
        }
        // Besides, what the two tags have to sync: no more than the cache.
        assert!(descriptors(dir.path()) <= 9, "{}", descriptors(dir.path()));
        it.ask(Op::Sync { tag: Tag(1) }).unwrap();
        it.ask(Op::Sync { tag: Tag(2) }).unwrap();
        for i in 0..100u8 {
            let object = format!("cached-object-{i}");
            assert_eq!(it.read(&object, 0, 4096).unwrap(), [i; 4096]);
        }
        // Four in the cache, the directory itself, and no hundred.
        assert!(descriptors(dir.path()) <= 5, "{}", descriptors(dir.path()));
    }
}

/// B20's cousin: a content that is half there must never be found under its hash.
#[test]
fn hash_leaves_nothing_but_the_content() {
    for setting in SETTINGS {
        let dir = setting.dir();
        let mut it = Files::open(setting.config(dir.path(), "node_1"));
        it.write("hashed-object", 0, &[7; 1000]).unwrap();
        let algorithm = driver::HashAlgorithm::Sha256;
        let hash = Op::Hash {
            name: name("hashed-object"),
            offset: 0,
            size: 4096,
            algorithm,
        };
        it.ask(hash).unwrap();
        let digest = algorithm.digest(&[7; 1000]).to_string();
        let after = files(dir.path());
        assert_eq!(after.len(), 2, "{after:?}");
        assert!(
            after.iter().any(|path| path.ends_with(&digest)),
            "{after:?}"
        );
    }
}

/// A file size limit stands in for a full disk: the write fails, and nothing else does.
#[test]
fn a_write_that_does_not_fit_fails_alone() {
    for setting in SETTINGS {
        let dir = setting.dir();
        let mut it = Files::open(setting.config(dir.path(), "node_1"));
        it.write("good-object", 0, &[1; 512]).unwrap();
        // Past what any of these filesystems can hold in one file.
        let far = i64::MAX as u64 / 4096 * 4096 - (1 << 22);
        let done = it.ask_all(vec![
            write("good-object", 512, &[2; 512], Tag(1)),
            write("good-object", far, &[3; 4096], Tag(1)),
            write("other-object", 0, &[4; 512], Tag(1)),
            Op::Sync { tag: Tag(1) },
        ]);
        let failed: Vec<_> = done.iter().map(|done| done.result.as_ref().err()).collect();
        let refused = failed[1].copied();
        let on_tmpfs = refused.is_none();
        assert!(on_tmpfs || refused == Some(Errno::FBIG), "{failed:?}");
        assert!(failed[0].is_none() && failed[2].is_none() && failed[3].is_none());
        assert_eq!(it.read("good-object", 512, 512).unwrap(), [2; 512]);
    }
}
