//! A node whose USER and GROUP are changed.

use crate::lab::Lab;
use config::NodeConfig;
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

const NOBODY: u32 = 65534;

/// The storage of a node goes to another user, as an administrator hands it over.
fn give(dir: &Path, id: u32) {
    chown(dir, Some(id), Some(id)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => give(&path, id),
            false => chown(&path, Some(id), Some(id)).unwrap(),
        }
    }
}

fn configure(lab: &mut Lab, user: &str, group: &str) {
    let text = fs::read_to_string(&lab.config.file).unwrap();
    let keep = |line: &&str| {
        !["USER", "GROUP", "RUN_DIR", "STATE_DIR", "LOG_DIR"]
            .iter()
            .any(|k| line.starts_with(k))
    };
    let text: String = text
        .lines()
        .filter(keep)
        .map(|line| format!("{line}\n"))
        .collect();
    let keys = format!(
        "[ARCHIPELAGO]\nUSER = {user}\nGROUP = {group}\nRUN_DIR = run/archipelago\n\
         STATE_DIR = state/archipelago\nLOG_DIR = log/archipelago\n"
    );
    fs::write(&lab.config.file, text.replace("[ARCHIPELAGO]\n", &keys)).unwrap();
    lab.config = NodeConfig::load(&lab.config.file).unwrap();
}

/// The guide has an administrator name gunicorn's user in a configuration whose log directory a
/// package had made for another group, and where root's node may have run before. The new user
/// could write neither its logs nor what the node remembers, and did not start.
#[test]
fn a_node_of_another_user_takes_over_what_the_former_left() {
    if !nix::unistd::geteuid().is_root() {
        let why = "SKIP users: only root becomes another user";
        writeln!(std::io::stderr(), "{why}").unwrap();
        return;
    }
    let mut lab = Lab::new(true);
    fs::set_permissions(lab.path(""), Permissions::from_mode(0o755)).unwrap();
    let log = lab.path("log/archipelago");
    fs::create_dir(&log).unwrap();
    fs::create_dir(lab.path("state")).unwrap();
    // As the package leaves it: of a group that neither of them is in.
    chown(&log, Some(0), Some(1)).unwrap();
    // Somebody else's file, to which nothing of ours must lead.
    let other = lab.path("other");
    fs::write(&other, "root's").unwrap();
    for (user, group, id) in [
        ("root", "root", 0),
        ("nobody", "nogroup", NOBODY),
        ("root", "root", 0),
    ] {
        configure(&mut lab, user, group);
        ["blocks", "maps", "locks"]
            .iter()
            .for_each(|dir| give(&lab.path(dir), id));
        let said = lab.archipelago("start");
        assert_eq!(said.status, 0, "{user}: {said:?}");
        let process = fs::metadata(format!("/proc/{}", lab.pid("vlmcd"))).unwrap();
        assert_eq!(process.uid(), id);
        for (dir, bits) in [("run", 0o770), ("log", 0o775)] {
            let meta = fs::metadata(lab.path(dir).join("archipelago")).unwrap();
            assert_eq!(
                (meta.gid(), meta.mode() & bits),
                (id, bits),
                "{dir} of {user}"
            );
        }
        assert_eq!(lab.archipelago("stop").status, 0);
        if user == "root" {
            let _ = std::os::unix::fs::symlink(&other, log.join("soft.log"));
            let _ = fs::hard_link(&other, log.join("hard.log"));
        }
    }
    assert_eq!(fs::metadata(&other).unwrap().uid(), 0);
}
