//! Whole files, from text to types: what is accepted, what is refused and with which words, and
//! what is only odd.

use std::path::{Path, PathBuf};

use archip_config::{
    Caller, ConfigError, Endpoint, ErrorKind, NodeConfig, PortNo, RoleKind, SampleParams,
    VolumeNaming, sample_config,
};
use proptest::prelude::*;

const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    groups: Vec::new(),
};

/// A folder with everything that the configurations below point to.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        for dir in ["blocks", "maps", "locks", "log"] {
            std::fs::create_dir(folder.path().join(dir)).unwrap();
        }
        Folder(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("a.conf")
    }

    fn parse(&self, text: &str) -> Result<NodeConfig, ConfigError> {
        NodeConfig::from_text(&self.file(), text, &ROOT)
    }
}

/// A configuration as administrators of the original have it, with its keys and spellings.
const OLD: &str = "\
[ARCHIPELAGO]
USER = root
GROUP = root
BLKTAP_ENABLED = yes
LOG_DIR = log

[XSEG]
SEGMENT_PORTS = 2048
SEGMENT_DYNPORTS = 1024
SEGMENT_SIZE = 2048
VTOOL_START=1003
VTOOL_END=1022

[PEERS]
ROLES = blockerb blockerm mapperd vlmcd poold
ORDER = ignored

[blockerb]
type: file_blocker
portno_start: 1000
portno_end: 1000
nr_ops: 64
nr_threads: 64
fdcache: 512
archip_dir: blocks
direct: True
threshold: 0
umask: 0

[blockerm]
type = file_blocker
portno_start = 1002
portno_end = 1002
nr_ops = 64
nr_threads = 64
archip_dir = maps
lock_dir = locks
direct = False
pithos_migrate = on
log_level = 3
umask = 0o027
logfile = log/other.log
unique_str = node1

[mapperd]
type = mapperd
portno_start = 1001
portno_end = 1001
nr_ops = 512
blockerb_port = 1000
blockerm_port = 1002

[vlmcd]
type = vlmcd
portno_start = 500
portno_end = 999
nr_ops = 512
blocker_port = 1000
mapper_port = 1001

[poold]
type = poold
portno_start = 1
portno_end = 200
";

#[test]
fn an_old_configuration_means_what_it_meant() {
    let folder = Folder::new();
    let node = folder.parse(OLD).unwrap();
    let here = folder.0.path();
    assert!(node.archipelago.blktap_enabled && node.warnings.is_empty());
    assert_eq!(
        (node.archipelago.umask, node.archipelago.user.uid),
        (0o007, 0)
    );
    assert_eq!(
        node.xseg.segment.to_string(),
        "posix:archipelago:1024:2048:2048:12"
    );
    assert_eq!(node.xseg.vtool.end(), PortNo(1022));
    let names: Vec<&str> = node.roles.iter().map(|role| role.name.as_str()).collect();
    assert_eq!(names, ["blockerb", "blockerm", "mapperd", "vlmcd", "poold"]);

    let blockerb = node.role("blockerb").unwrap();
    assert_eq!(
        (blockerb.nr_ops, blockerb.threshold, blockerb.umask),
        (64, 0, 0o007)
    );
    assert_eq!(blockerb.logfile, Some(here.join("log/blockerb.log")));
    let RoleKind::FileBlocker(filed) = &blockerb.kind else {
        panic!()
    };
    assert_eq!(
        (filed.fdcache, filed.direct, filed.pithos_migrate),
        (512, true, false)
    );
    assert_eq!(filed.archip_dir, here.join("blocks"));
    assert!(blockerb.owner().ends_with("_1000"));

    let blockerm = node.role("blockerm").unwrap();
    assert_eq!((blockerm.log_level, blockerm.umask), (3, 0o027));
    assert_eq!(blockerm.owner(), "node1");
    assert_eq!(blockerm.logfile, Some(here.join("log/other.log")));
    let RoleKind::FileBlocker(filed) = &blockerm.kind else {
        panic!()
    };
    assert_eq!(
        (filed.fdcache, filed.direct, filed.pithos_migrate),
        (128, false, true)
    );
    assert_eq!(filed.lock_dir, Some(here.join("locks")));
    assert_eq!(node.processes().len(), 5);
}

/// Replaces `from` once, and asserts that it was there.
fn with(from: &str, to: &str) -> String {
    assert!(OLD.contains(from), "{from}");
    OLD.replacen(from, to, 1)
}

/// Replaces `from` in the section `section` only.
fn within(section: &str, from: &str, to: &str) -> String {
    let (before, after) = OLD.split_once(&format!("[{section}]")).unwrap();
    assert!(after.contains(from), "{from}");
    format!("{before}[{section}]{}", after.replacen(from, to, 1))
}

/// What the blockers' sections say of leases is told to those who give and use them.
#[test]
fn the_lease_of_the_blockers_is_everybodys() {
    let folder = Folder::new();
    let text = with("direct = False", "direct = False\nlock_ttl = 10").replacen(
        "fdcache: 512",
        "fdcache: 512\nlock_ttl: 10",
        1,
    );
    let told = |text: &str| {
        let roles = folder.parse(text).unwrap().roles;
        let told = roles.iter().filter_map(|role| match &role.kind {
            RoleKind::Mapperd(mapperd) => Some(mapperd.lock_ttl_s),
            RoleKind::Vlmcd(vlmcd) => Some(vlmcd.lock_ttl_s),
            other => other.lock_ttl_s(),
        });
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(&text), [10; 4]);
    assert_eq!(told(OLD), [30; 4]);
}

#[test]
fn every_error_names_file_section_and_key() {
    use ErrorKind::*;
    let conflict = "Port range conflict: (999, 1000) conflicts with (500, 999)";
    let table: Vec<(String, ErrorKind, &str, &str)> = vec![
        (
            with("[XSEG]", "[Xseg]"),
            MissingSection,
            "[XSEG]",
            "missing",
        ),
        (
            with("[PEERS]", "[Peers]"),
            MissingSection,
            "[PEERS]",
            "missing",
        ),
        (
            with("[ARCHIPELAGO]", "[A]"),
            MissingSection,
            "[ARCHIPELAGO]",
            "missing",
        ),
        (
            with("SEGMENT_PORTS = 2048\n", ""),
            MissingKey,
            "[XSEG] segment_ports",
            "missing",
        ),
        (
            with("PORTS = 2048", "PORTS = many"),
            BadValue,
            "[XSEG] segment_ports",
            "`many` is not",
        ),
        (
            with("PORTS = 2048", "PORTS = -1"),
            OutOfRange,
            "[XSEG] segment_ports",
            "-1 is out of",
        ),
        (
            with("DYNPORTS = 1024", "DYNPORTS = 2048"),
            OutOfRange,
            "[XSEG] segment_dynports",
            "Dynports >= max ports",
        ),
        (
            with("SEGMENT_SIZE", "SEGMENT_TYPE = sysv\nSEGMENT_SIZE"),
            BadValue,
            "[XSEG] segment_type",
            "Segment type not valid",
        ),
        (
            with("SEGMENT_SIZE", "SEGMENT_ALIGNMENT = 13\nSEGMENT_SIZE"),
            OutOfRange,
            "[XSEG] segment_alignment",
            "alignment",
        ),
        (
            with("SEGMENT_SIZE", "SEGMENT_NAME = a/b\nSEGMENT_SIZE"),
            BadValue,
            "[XSEG] segment_name",
            "no segment name",
        ),
        (
            with("VTOOL_END=1022", "VTOOL_END=2048"),
            OutOfRange,
            "[XSEG] vtool_end",
            "Portno 2048 out of range",
        ),
        (
            with("VTOOL_START=1003", "VTOOL_START=1002"),
            Conflict,
            "[XSEG] vtool_start",
            "Port range conflict: (1002, 1022) conflicts with (1002, 1002)",
        ),
        (
            with("ROLES = blockerb blockerm mapperd vlmcd poold", "ROLES ="),
            MissingKey,
            "[PEERS] roles",
            "Roles setup must be provided",
        ),
        (
            with("ROLES = blockerb", "ROLES = ../b"),
            BadValue,
            "[PEERS] roles",
            "`../b` is not a name",
        ),
        (
            with("vlmcd poold", "vlmcd vlmcd"),
            Conflict,
            "[PEERS] roles",
            "named twice",
        ),
        (
            with("vlmcd poold", "vlmcd fifth"),
            MissingSection,
            "[fifth]",
            "No config found for fifth",
        ),
        (
            with("USER = root\n", ""),
            MissingKey,
            "[ARCHIPELAGO] user",
            "missing",
        ),
        (
            with("USER = root", "USER = no-such-user"),
            NotFound,
            "[ARCHIPELAGO] user",
            "User 'no-such-user' does not exist",
        ),
        (
            with("GROUP = root", "GROUP = no-such"),
            NotFound,
            "[ARCHIPELAGO] group",
            "Group 'no-such' does not exist",
        ),
        (
            with("ENABLED = yes", "ENABLED = maybe"),
            BadValue,
            "[ARCHIPELAGO] blktap_enabled",
            "`maybe` is not True or False",
        ),
        (
            with("BLKTAP_ENABLED = yes\n", ""),
            MissingKey,
            "[ARCHIPELAGO] blktap_enabled",
            "missing",
        ),
        (
            with("LOG_DIR = log", "ENDPOINT = iscsi"),
            BadValue,
            "[ARCHIPELAGO] endpoint",
            "one of auto, ublk",
        ),
        (
            with("LOG_DIR = log", "UMASK = 0o1000"),
            OutOfRange,
            "[ARCHIPELAGO] umask",
            "a umask is",
        ),
        (
            with("LOG_DIR = log", "LOG_DIR = nowhere"),
            NotFound,
            "[blockerb] logfile",
            "no directory",
        ),
        (
            with("type: file_blocker", "type: memory"),
            UnknownType,
            "[blockerb] type",
            "memory is not a valid role",
        ),
        (
            with("type: file_blocker\n", ""),
            MissingKey,
            "[blockerb] type",
            "missing",
        ),
        (
            within("blockerb", "nr_ops: 64\n", ""),
            MissingKey,
            "[blockerb] nr_ops",
            "missing",
        ),
        (
            within("mapperd", "nr_ops = 512", "nr_ops = 500"),
            OutOfRange,
            "[mapperd] nr_ops",
            "nr_ops of mapperd is not a power of 2",
        ),
        (
            with("fdcache: 512", "fdcache: 127"),
            OutOfRange,
            "[blockerb] fdcache",
            "Fdcache should be greater than 2*nr_threads",
        ),
        (
            with("archip_dir: blocks", "archip_dir: nowhere"),
            NotFound,
            "[blockerb] archip_dir",
            "blockerb: Archip dir invalid",
        ),
        (
            with("archip_dir: blocks\n", ""),
            MissingKey,
            "[blockerb] archip_dir",
            "missing",
        ),
        (
            with("lock_dir = locks", "lock_dir = nowhere"),
            NotFound,
            "[blockerm] lock_dir",
            "Lock dir invalid",
        ),
        (
            with("log_level = 3", "log_level = 4"),
            OutOfRange,
            "[blockerm] log_level",
            "0 (errors) to 3",
        ),
        (
            with("umask = 0o027", "umask = rw"),
            BadValue,
            "[blockerm] umask",
            "`rw` is not a number",
        ),
        (
            with("direct = False", "direct = maybe"),
            BadValue,
            "[blockerm] direct",
            "`maybe` is not",
        ),
        (
            with("direct = False", "hash_algorithm = md5"),
            BadValue,
            "[blockerm] hash_algorithm",
            "one of sha256",
        ),
        (
            with("direct = False", "lock_ttl = 0"),
            OutOfRange,
            "[blockerm] lock_ttl",
            "1 to 3600 seconds",
        ),
        (
            with("direct = False", "lock_ttl = 3601"),
            OutOfRange,
            "[blockerm] lock_ttl",
            "1 to 3600 seconds",
        ),
        (
            with("direct = False", "lock_ttl = 10"),
            Conflict,
            "[blockerb] lock_ttl",
            "blockerm has another",
        ),
        (
            with("direct = False", "hash_algorithm = blake2b256"),
            Conflict,
            "[blockerb] hash_algorithm",
            "blockerm has another",
        ),
        (
            with("direct = False", "process = mapperd"),
            Conflict,
            "[blockerm] process",
            "mapperd is a role of its own",
        ),
        (
            with("direct = False", "process = a/b"),
            BadValue,
            "[blockerm] process",
            "`a/b` is not a name",
        ),
        (
            with("portno_start = 500\n", ""),
            MissingKey,
            "[vlmcd] portno_start",
            "missing",
        ),
        (
            with("portno_start = 500", "portno_start = 5oo"),
            BadValue,
            "[vlmcd] portno_start",
            "`5oo` is not a whole number",
        ),
        (
            with("portno_start = 500", "portno_start = 1001\nx = 1"),
            OutOfRange,
            "[vlmcd] portno_end",
            "ends before it begins",
        ),
        (
            with("portno_end = 999", "portno_end = 9999"),
            OutOfRange,
            "[vlmcd] portno_end",
            "Portno 9999 out of range",
        ),
        (
            with("portno_start = 500", "portno_start = 501").replace(
                "portno_start = 1\nportno_end = 200",
                "portno_start = 1\nportno_end = 600",
            ),
            Conflict,
            "[poold] portno_start",
            "(1, 600) conflicts with (501, 999)",
        ),
        (
            with(
                "ROLES = blockerb blockerm",
                "ROLES = vlmcd blockerb blockerm",
            )
            .replace(" vlmcd poold", "")
            .replace("portno_start: 1000", "portno_start: 999"),
            Conflict,
            "[blockerb] portno_start",
            conflict,
        ),
        (
            with(
                "portno_start: 1000\nportno_end: 1000",
                "portno_start: 1030\nportno_end: 1030",
            ),
            OutOfRange,
            "[blockerb] portno_end",
            "below SEGMENT_DYNPORTS (1024)",
        ),
        (
            with("blockerb_port = 1000", "blockerb_port = 1001"),
            DanglingReference,
            "[mapperd] blockerb_port",
            "belongs to mapperd, a mapperd, and not to a blocker",
        ),
        (
            with("blockerm_port = 1002", "blockerm_port = 7777"),
            DanglingReference,
            "[mapperd] blockerm_port",
            "belongs to no role",
        ),
        (
            with("mapper_port = 1001", "mapper_port = 1000"),
            DanglingReference,
            "[vlmcd] mapper_port",
            "and not to a mapperd",
        ),
        (
            with("blocker_port = 1000\nmapper", "blocker_port = 1\nmapper"),
            DanglingReference,
            "[vlmcd] blocker_port",
            "a poold",
        ),
        (
            with("mapper_port = 1001\n", "map_version = 3\n").replace(
                "blockerm_port = 1002",
                "blockerm_port = 1002\nmap_version = 3",
            ),
            OutOfRange,
            "[mapperd] map_version",
            "version 2",
        ),
        (
            with("USER = root", "USER root"),
            Syntax,
            "[ARCHIPELAGO]",
            "neither",
        ),
    ];
    let folder = Folder::new();
    for (text, kind, place, words) in table {
        let error = folder.parse(&text).expect_err(words);
        let sentence = error.to_string();
        assert!(
            sentence.contains(place) && sentence.contains(words),
            "{place} {words}: {sentence}"
        );
        assert!(
            sentence.starts_with(folder.file().to_str().unwrap()),
            "{sentence}"
        );
        assert_eq!(error.kind(), kind, "{sentence}");
    }
}

#[test]
fn an_error_tells_the_line() {
    let error = Folder::new()
        .parse(&with("fdcache: 512", "fdcache: 5"))
        .unwrap_err();
    let line = OLD.lines().position(|line| line == "fdcache: 512").unwrap() + 1;
    assert_eq!(error.place().line, Some(u32::try_from(line).unwrap()));
}

#[test]
fn an_unreadable_file_says_so() {
    let error = NodeConfig::load(Path::new("/no/such/file")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreadable);
    assert!(
        error
            .to_string()
            .contains("/no/such/file: Cannot read config file"),
        "{error}"
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn unknown_keys_are_named_and_ignored() {
    let text = with(
        "pithos_migrate = on",
        "pithos-migrate = on\nprefix = x_\nrubbish = 1",
    );
    let text = text.replace("SEGMENT_SIZE", "SEGMENT_COLOUR = red\nSEGMENT_SIZE");
    let node = Folder::new().parse(&text).unwrap();
    let warnings: Vec<String> = node.warnings.iter().map(ToString::to_string).collect();
    let expected = [
        "[blockerm] prefix: ignored: it is always `archip_`",
        "[blockerm] pithos-migrate: unknown key, ignored; `pithos_migrate` is meant",
        "[blockerm] rubbish: unknown key, ignored",
        "[XSEG] segment_colour: unknown key, ignored",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(
            warning.contains("a.conf:") && warning.ends_with(expected),
            "{warning}"
        );
    }
}

#[test]
fn without_root_the_caller_is_the_user() {
    let folder = Folder::new();
    let caller = Caller {
        uid: 4_000_000_000,
        gid: 4_000_000_000,
        groups: vec![0],
    };
    let parse = |text: &str| NodeConfig::from_text(&folder.file(), text, &caller);

    let text = with("USER = root\nGROUP = root\n", "");
    let own = parse(&text).unwrap().archipelago;
    assert_eq!((own.user.uid, own.group.gid), (caller.uid, caller.gid));
    let text = with("USER = root\n", "USER = 4000000000\n");
    let named = parse(&text).unwrap().archipelago;
    assert_eq!((named.user.uid, named.group.gid), (caller.uid, 0));
    let error = parse(OLD).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotPermitted);
    assert!(
        error.to_string().contains("[ARCHIPELAGO] user: only root"),
        "{error}"
    );
}

#[test]
fn new_keys_are_read() {
    let text = with(
        "LOG_DIR = log",
        "LOG_DIR = log\nENDPOINT = nbd\nRUN_DIR = run\nSTATE_DIR = state\nSANDBOX = on\nfence_command = fence it",
    );
    let text = text.replace("SEGMENT_SIZE", "SEGMENT_NAME = other\nSEGMENT_SIZE");
    let text = text.replace(
        "mapper_port = 1001",
        "mapper_port = 1001\nwrite_through = yes",
    );
    let folder = Folder::new();
    let node = folder.parse(&text).unwrap();
    let main = &node.archipelago;
    assert_eq!((main.endpoint, main.sandbox), (Endpoint::Nbd, true));
    assert_eq!(main.fence_command.as_deref(), Some("fence it"));
    assert_eq!(main.state_dir, folder.0.path().join("state"));
    assert_eq!(node.xseg.segment.name, "other");
    let pidfile = folder.0.path().join("run/vlmcd.pid");
    assert_eq!(node.role("vlmcd").unwrap().pidfile, Some(pidfile));
    let RoleKind::Vlmcd(vlmcd) = &node.role("vlmcd").unwrap().kind else {
        panic!()
    };
    assert!(vlmcd.write_through);
    let RoleKind::Poold(poold) = &node.role("poold").unwrap().kind else {
        panic!()
    };
    assert_eq!(poold.socket_path, folder.0.path().join("run/poold.socket"));
}

#[test]
fn a_rados_node_needs_no_directory() {
    let rados = |pool| format!("type = rados_blocker\npool = {pool}\ncephx_id = admin\n");
    let text = with("type: file_blocker\n", &rados("blocks")).replace("archip_dir: blocks\n", "");
    let node = Folder::new().parse(&text).unwrap();
    let RoleKind::RadosBlocker(radosd) = &node.role("blockerb").unwrap().kind else {
        panic!()
    };
    assert_eq!(
        (radosd.pool.as_str(), radosd.cephx_id.as_deref()),
        ("blocks", Some("admin"))
    );
    assert_eq!(
        (radosd.nr_threads, radosd.ceph_conf.to_str()),
        (64, Some("/etc/ceph/ceph.conf"))
    );
    let unknown: Vec<_> = node
        .warnings
        .iter()
        .filter_map(|w| w.place.key.as_deref())
        .collect();
    assert_eq!(unknown, ["direct", "fdcache"]);
}

#[test]
fn roles_share_a_process_when_they_say_so() {
    let text = OLD.replace("nr_ops: 64", "nr_ops: 64\nprocess = disk");
    let text = text.replace("blocker_port = 1000", "blocker_port = 1000\nprocess = disk");
    let node = Folder::new().parse(&text).unwrap();
    let processes: Vec<(&str, Vec<&str>)> = node
        .processes()
        .iter()
        .map(|p| {
            (
                p.name,
                p.roles.iter().map(|role| role.name.as_str()).collect(),
            )
        })
        .collect();
    let expected = [
        ("disk", vec!["blockerb", "vlmcd"]),
        ("blockerm", vec!["blockerm"]),
        ("mapperd", vec!["mapperd"]),
        ("poold", vec!["poold"]),
    ];
    assert_eq!(processes, expected);
}

/// The file that packages install differs from a usable one only in directories that exist.
#[test]
fn the_shipped_file_has_the_shipped_defaults() {
    let folder = Folder::new();
    let text = include_str!("../../../packaging/archipelago.conf")
        .replace("/srv/archip/", "")
        .replace("#LOG_DIR = /var/log/archipelago", "LOG_DIR = log");
    let node = folder.parse(&text).unwrap();
    assert_eq!(node.warnings, []);
    assert_eq!(
        node.xseg.segment.to_string(),
        "posix:archipelago:1024:2048:2048:12"
    );
    let ports: Vec<String> = node
        .roles
        .iter()
        .map(|r| format!("{} {}", r.ports, r.nr_ops))
        .collect();
    assert_eq!(
        ports,
        [
            "(1000, 1000) 64",
            "(1002, 1002) 64",
            "(1001, 1001) 512",
            "(500, 999) 512"
        ]
    );
    assert_eq!(node.processes().len(), 1);
    assert_keys_commented_out_are_known(&folder, &text);
}

/// The same over RADOS: only where the objects are is another matter.
#[test]
fn the_shipped_rados_example_differs_in_its_blockers_alone() {
    let folder = Folder::new();
    let local = |text: &str| {
        text.replace("/srv/archip/", "")
            .replace("#LOG_DIR = /var/log/archipelago", "LOG_DIR = log")
    };
    let text = local(include_str!(
        "../../../packaging/archipelago.conf.rados_example"
    ));
    let files = local(include_str!("../../../packaging/archipelago.conf"));
    let (node, files) = (folder.parse(&text).unwrap(), folder.parse(&files).unwrap());
    assert_eq!(node.warnings, []);
    assert_eq!(node.xseg, files.xseg);
    for (role, pool) in [
        ("blockerb", Some("blocks")),
        ("blockerm", Some("maps")),
        ("vlmcd", None),
    ] {
        let (ours, theirs) = (node.role(role).unwrap(), files.role(role).unwrap());
        assert_eq!(ours.ports, theirs.ports);
        match &ours.kind {
            RoleKind::RadosBlocker(rados) => assert_eq!(Some(&*rados.pool), pool),
            kind => assert_eq!((kind, pool), (&theirs.kind, None)),
        }
    }
    assert_eq!(node.processes().len(), 1);
}

/// With every `#key = value` taken in, nothing is unknown and nothing changes its meaning.
fn assert_keys_commented_out_are_known(folder: &Folder, text: &str) {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_alphabetic() || c == '[') => key,
        _ => line,
    });
    let all: String = lines.map(|line| format!("{line}\n")).collect();
    let plain = folder.parse(text).unwrap();
    let node = folder.parse(&all).unwrap();
    assert_eq!(node.warnings, []);
    let run_dir = Path::new("/run/archipelago");
    assert_eq!(node.archipelago.run_dir, run_dir);
    assert_eq!(node.archipelago.endpoint, plain.archipelago.endpoint);
    assert_eq!(
        node.role("vlmcd").unwrap().kind,
        plain.role("vlmcd").unwrap().kind
    );
    assert_eq!(
        node.role("mapperd").unwrap().kind,
        plain.role("mapperd").unwrap().kind
    );
}

/// The section is new: a file without it means what its defaults say.
#[test]
fn ganetis_section_may_be_absent() {
    let folder = Folder::new();
    let read = |lines: &str| folder.parse(&format!("{OLD}\n{lines}"));
    let absent = read("").unwrap().ganeti;
    assert_eq!(absent, read("[GANETI]").unwrap().ganeti);
    assert_eq!(absent.volume_name, VolumeNaming::Auto);
    assert_eq!(absent.hooks_log, Path::new("/var/log/ganeti/hooks.log"));
    for naming in VolumeNaming::ALL {
        let text = format!(
            "[GANETI]\nVOLUME_NAME = {}\nHOOKS_LOG = log",
            naming.as_str()
        );
        let ganeti = read(&text).unwrap().ganeti;
        assert_eq!(ganeti.volume_name, naming);
        assert_eq!(ganeti.hooks_log, folder.0.path().join("log"));
    }
    let wrong = read("[GANETI]\nVOLUME_NAME = name").unwrap_err();
    assert_eq!(
        wrong.message(),
        "`name` is not one of auto, VOL_CNAME, VOL_NAME"
    );
    let unknown = read("[GANETI]\nNAME = auto").unwrap().warnings;
    assert!(
        unknown
            .iter()
            .any(|w| w.to_string().contains("[GANETI] name: unknown key")),
        "{unknown:?}"
    );
}

#[test]
fn a_sample_node_is_written_once_and_loads() {
    let folder = tempfile::tempdir().unwrap();
    let params = SampleParams::new(folder.path());
    let file = params.write().unwrap();
    let node = NodeConfig::load(&file).unwrap();
    assert_eq!(node.warnings, []);
    assert_eq!(node.xseg.segment.size_mib, 256);
    assert_eq!(node.archipelago.run_dir, folder.path().join("run"));
    let processes = node.processes();
    assert_eq!(
        (processes.len(), processes[0].name, processes[0].roles.len()),
        (1, "node", 4)
    );
    let again = params.write().unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
}

proptest! {
    #[test]
    fn a_sample_is_read_back_as_it_was_asked_for(
        name in "[a-z][a-z0-9.-]{0,20}",
        size in 1u64..10_000,
        process in proptest::option::of("[a-z]{1,5}x"),
        nr_ops in (0u32..10).prop_map(|bits| 1 << bits),
        direct in any::<bool>(),
        endpoint in prop::sample::select(Endpoint::ALL.to_vec()),
    ) {
        let folder = Folder::new();
        let mut params = SampleParams::new(folder.0.path());
        params.segment_name = name.clone();
        params.segment_size_mib = size;
        params.process = process.clone();
        params.nr_ops = nr_ops;
        params.direct = direct;
        params.endpoint = endpoint;
        let node = NodeConfig::from_text(&folder.file(), &sample_config(&params), &params.caller);
        let node = node.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(&node.warnings, &[]);
        prop_assert_eq!((&node.xseg.segment.name, node.xseg.segment.size_mib), (&name, size));
        prop_assert_eq!(node.archipelago.endpoint, endpoint);
        prop_assert_eq!(node.processes().len(), if process.is_some() { 1 } else { 4 });
        for role in &node.roles {
            prop_assert_eq!((role.nr_ops, &role.process), (nr_ops, &process));
            if let RoleKind::FileBlocker(filed) = &role.kind {
                prop_assert_eq!(filed.direct, direct);
            }
        }
    }

    #[test]
    fn no_change_of_a_good_file_panics(at in 0..OLD.len(), cut in 0usize..40, text in ".{0,10}") {
        let end = (at + cut).min(OLD.len());
        let mut changed = OLD.to_owned();
        changed.replace_range(at..end, &text);
        let _ = NodeConfig::from_text(Path::new("/a.conf"), &changed, &ROOT);
    }
}
