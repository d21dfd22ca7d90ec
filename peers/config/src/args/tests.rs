//! The peers' command lines, read and written.

use proptest::prelude::*;

use clap::CommandFactory;

use super::*;
use crate::ports::PortRange;
use crate::role::{FileBlocker, HashAlgorithm, RadosBlocker};

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

fn parsed(executable: Executable, text: &str) -> Result<PeerCommand, String> {
    let args = [executable.name().into()].into_iter().chain(words(text));
    parse(executable, args).map_err(|error| error.to_string())
}

fn written(executable: Executable, text: &str) -> String {
    let command = parsed(executable, text).unwrap();
    let line = command_line(&command.role, &command.generic);
    line.iter()
        .map(|word| word.to_str().unwrap())
        .collect::<Vec<_>>()
        .join(" ")
}

const SEGMENT: &str = "posix:archipelago:1024:2048:2048:12";

/// The lines that the original's tool generates, and ours: only `-r` is added where the develop
/// line of the original had none, and `--threshold` where it is not the default.
#[test]
fn the_originals_lines_are_written_as_they_were_read() {
    let generic = |port: u32, role: &str| {
        format!(
            "-d -n 64 -l /tmp/a.log --pidfile /tmp/a.pid -sp {port} -ep {port} -v 1 -g {SEGMENT} \
             --threshold 50 -uid 33 -gid 34 --umask 7 -r {role}"
        )
    };
    let table = [
        (
            Executable::Filed,
            format!(
                "{} -t 64 --uniquestr host_1000 --fdcache 512 --archip / --prefix archip_ \
                 --directio --pithos-migrate --lockdir /tmp",
                generic(1000, "blockerb")
            ),
        ),
        (
            Executable::Radosd,
            format!(
                "{} -t 4 --pool blocks --cephx-id admin",
                generic(1000, "blockerb")
            ),
        ),
        (
            Executable::Mapperd,
            format!("{} -mbp 1002 -bp 1000", generic(1001, "mapperd")),
        ),
        (
            Executable::Vlmcd,
            format!("{} -bp 1000 -mp 1001", generic(500, "vlmcd")),
        ),
        (
            Executable::Poold,
            "-d -c /etc/l.conf -i /tmp/p.pid -s 1 -e 200 -u 33 -g 34 -m 7 -p /tmp/p.socket".into(),
        ),
    ];
    for (executable, line) in table {
        assert_eq!(written(executable, &line), line);
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let command = parsed(Executable::Filed, "-g posix:a: -p 5 --archip /").unwrap();
    let PeerCommand { role, generic } = command;
    assert_eq!(
        (role.name.as_str(), role.nr_ops, role.log_level),
        ("filed", 16, 0)
    );
    assert_eq!((role.threshold, role.umask), (1000, 7));
    assert_eq!((role.logfile, role.pidfile), (None, None));
    assert_eq!(role.ports, PortRange::single(PortNo(5)));
    let RoleKind::FileBlocker(filed) = role.kind else {
        panic!("{:?}", role.kind)
    };
    assert_eq!(
        (filed.fdcache, filed.direct, filed.lock_dir),
        (32, false, None)
    );
    let segment = Some("posix:a:64:128:256:12".parse().unwrap());
    assert_eq!(
        generic,
        Generic {
            segment,
            ..Generic::default()
        }
    );
}

#[test]
fn spellings_may_vary() {
    let plain = "-g posix:a: -sp 1 -ep 2 -mbp 3 -bp 4 -uid 0 --umask 18";
    let long = "--segment posix:a: --start-port 1 --end-port=2 --blockerm-port 3 -bp=4 --uid 0 \
                --umask 022";
    let short = "--seg posix:a: --start 1 --end 2 --blockerm 3 --blockerb 4 --ui 0 --umask 0o22";
    let expected = parsed(Executable::Mapperd, plain).unwrap();
    assert_eq!(expected.role.umask, 0o22);
    assert_eq!(parsed(Executable::Mapperd, long).unwrap(), expected);
    assert_eq!(parsed(Executable::Mapperd, short).unwrap(), expected);
}

#[test]
fn paths_are_resolved_before_a_peer_changes_its_directory() {
    let here = std::env::current_dir().unwrap();
    let command = parsed(Executable::Filed, "-g a -p 5 --archip . --pidfile p");
    assert!(command.unwrap_err().contains("Segment type not valid"));
    let command = parsed(
        Executable::Filed,
        "-g posix:a -p 5 --archip src --pidfile p",
    )
    .unwrap();
    assert_eq!(command.role.pidfile, Some(here.join("p")));
    let RoleKind::FileBlocker(filed) = command.role.kind else {
        unreachable!()
    };
    assert_eq!(filed.archip_dir, here.join("src"));
}

#[test]
fn bad_lines_are_refused_with_a_reason() {
    let table = [
        (
            Executable::Vlmcd,
            "-g posix:a -p 1 -bp 2 -mp 3 --bogus",
            "--bogus",
        ),
        (
            Executable::Vlmcd,
            "-g posix:a -p 1 -bp 2 -mp 3 extra",
            "extra",
        ),
        (Executable::Vlmcd, "-p 1 -bp 2 -mp 3", "--segment"),
        (
            Executable::Vlmcd,
            "-g posix:a -bp 2 -mp 3",
            "give -p, or -sp and -ep",
        ),
        (
            Executable::Vlmcd,
            "-g posix:a -sp 1 -bp 2 -mp 3",
            "give -p, or -sp and -ep",
        ),
        (
            Executable::Vlmcd,
            "-g posix:a -sp 4 -ep 3 -bp 2 -mp 3",
            "ends before it begins",
        ),
        (
            Executable::Vlmcd,
            "-g posix:a -p 64 -bp 2 -mp 3",
            "must be below 64",
        ),
        (
            Executable::Vlmcd,
            "-g posix:a -p 1 -bp 2 -mp 3 -n 3",
            "nr_ops: nr_ops of vlmcd is not a power of 2",
        ),
        (
            Executable::Vlmcd,
            "-g posix:a -p 1 -bp 2 -mp 3 -v 4",
            "log_level: the log level",
        ),
        (
            Executable::Vlmcd,
            "-g posix:a -p 1 -bp 2 -mp 3 --cpus 0,1",
            "2 processors for 1",
        ),
        (
            Executable::Vlmcd,
            "-g posix:a -p 1 -bp 2 -mp 3 -r a/b",
            "no name of a role",
        ),
        (
            Executable::Mapperd,
            "-g posix:a -p 1 -bp 2",
            "--blockerm-port",
        ),
        (Executable::Filed, "-g posix:a -p 1", "--archip"),
        (
            Executable::Filed,
            "-g posix:a -p 1 --archip /no/such",
            "Archip dir invalid",
        ),
        (
            Executable::Filed,
            "-g posix:a -p 1 --archip / --fdcache 31",
            "Fdcache should be",
        ),
        (
            Executable::Filed,
            "-g posix:a -p 1 --archip / --prefix x_",
            "archip_",
        ),
        (Executable::Radosd, "-g posix:a -p 1", "--pool"),
        (Executable::Poold, "-s 5 -e 4", "ends before it begins"),
    ];
    for (executable, line, reason) in table {
        let error = parsed(executable, line).unwrap_err();
        assert!(error.contains(reason), "{line}: {error}");
    }
}

#[test]
fn the_name_of_the_program_tells_which_it_is() {
    for executable in Executable::ALL {
        let path = format!("/usr/bin/{}", executable.name());
        assert_eq!(Executable::from_argv0(path.as_ref()), Some(executable));
    }
    assert_eq!(Executable::from_argv0("archipelago".as_ref()), None);
}

#[test]
fn help_is_complete_and_clap_finds_no_fault() {
    options::Filed::command().debug_assert();
    options::Radosd::command().debug_assert();
    options::Mapperd::command().debug_assert();
    options::Vlmcd::command().debug_assert();
    options::Poold::command().debug_assert();
    for (short, long) in options::SINGLE_DASH {
        let helps = [
            options::Filed::command().render_long_help().to_string(),
            options::Mapperd::command().render_long_help().to_string(),
            options::Vlmcd::command().render_long_help().to_string(),
        ];
        assert!(
            helps.iter().any(|help| help.contains(long)),
            "{short} {long}"
        );
    }
}

fn kinds() -> impl Strategy<Value = RoleKind> {
    let hash = prop::sample::select(HashAlgorithm::ALL.to_vec());
    let text = "[-a-zA-Z0-9_. ]{1,20}";
    prop_oneof![
        (
            any::<bool>(),
            any::<bool>(),
            any::<bool>(),
            text,
            hash.clone(),
            1u32..3600
        )
            .prop_map(
                |(direct, pithos_migrate, locks, unique, hash_algorithm, lock_ttl_s)| {
                    RoleKind::FileBlocker(FileBlocker {
                        archip_dir: "/".into(),
                        lock_dir: locks.then(|| "/tmp".into()),
                        fdcache: 4096,
                        direct,
                        pithos_migrate,
                        unique_str: Some(unique),
                        nr_threads: 3,
                        hash_algorithm,
                        lock_ttl_s,
                    })
                }
            ),
        (text, proptest::option::of(text), hash, 1u32..3600).prop_map(
            |(pool, cephx_id, hash_algorithm, lock_ttl_s)| {
                RoleKind::RadosBlocker(RadosBlocker {
                    pool,
                    cephx_id,
                    ceph_conf: "/tmp/c.conf".into(),
                    nr_threads: 2,
                    hash_algorithm,
                    lock_ttl_s,
                })
            }
        ),
        (any::<(u32, u32)>(), 1u32..=3600).prop_map(|((b, m), lock_ttl_s)| RoleKind::Mapperd(
            crate::Mapperd {
                blockerb_port: PortNo(b),
                blockerm_port: PortNo(m),
                map_version: 2,
                hash_algorithm: HashAlgorithm::Blake2b256,
                lock_ttl_s,
            }
        )),
        (any::<(u32, u32, bool)>(), 1u32..=3600).prop_map(|((b, m, write_through), lock_ttl_s)| {
            RoleKind::Vlmcd(crate::Vlmcd {
                blocker_port: PortNo(b),
                mapper_port: PortNo(m),
                write_through,
                lock_ttl_s,
            })
        }),
    ]
}

proptest! {
    #[test]
    fn a_role_survives_its_command_line(
        kind in kinds(),
        nr_ops in (0u32..11).prop_map(|bits| 1 << bits),
        (start, end) in (0u32..1000, 1000u32..1024),
        log_level in 0u8..=3,
        threshold in any::<u32>(),
        umask in 0u32..=0o777,
        (daemonize, logs) in any::<(bool, bool)>(),
        ids in proptest::option::of(any::<(u32, u32)>()),
    ) {
        let name = "role-1";
        let role = Role {
            nr_ops, log_level, threshold, umask,
            logfile: logs.then(|| "/var/log/a b.log".into()),
            pidfile: logs.then(|| "/run/a.pid".into()),
            ..Role::new(name, kind, PortRange::new(PortNo(start), PortNo(end)).unwrap())
        };
        let generic = Generic {
            daemonize,
            segment: Some(SEGMENT.parse().unwrap()),
            uid: ids.map(|ids| ids.0),
            gid: ids.map(|ids| ids.1),
            sandbox: logs,
            ..Generic::default()
        };
        let executable = Executable::of(&role.kind);
        let line = command_line(&role, &generic);
        let args = [executable.name().into()].into_iter().chain(line);
        let command = parse(executable, args).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(command, PeerCommand { role, generic });
    }

    #[test]
    fn no_line_panics(line in proptest::collection::vec("-{0,2}[a-z0-9=:]{0,6}", 0..8)) {
        for executable in Executable::ALL {
            let args = [executable.name().to_owned()].into_iter().chain(line.clone());
            let _ = parse(executable, args.map(OsString::from));
        }
    }
}
