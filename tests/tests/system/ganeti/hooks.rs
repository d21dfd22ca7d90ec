//! The two hooks, called as Ganeti calls them: on every node, with the instance in the
//! environment.

use super::driver::{Ganeti, Variable};
use super::scripts::{ID, beside, edited, is_ours, node};
use config::Endpoint;
use nix::unistd::Uid;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use system_tests::golden::archive::PYTHON;
use system_tests::golden::name;
use system_tests::golden::tree::files;
use system_tests::real::{RealNode, program};

const OPEN: &str = "archip-openvolumes";
const LOCK: &str = "archip-lockvolumes";

/// The name that Ganeti knows this host by, as Python tells it; `None`, and a word, without Python.
fn fqdn(test: &str) -> Option<String> {
    if !Path::new(PYTHON).exists() {
        eprintln!("skipped: {test}: there is no {PYTHON}");
        return None;
    }
    let mut python = Command::new(PYTHON);
    python.args(["-c", "import socket; print(socket.getfqdn())"]);
    let output = python.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// A node whose hooks log into its folder.
fn logging(parent: &tempfile::TempDir) -> RealNode {
    edited(parent, Endpoint::Nbd, |text| {
        format!("{text}\n[GANETI]\nHOOKS_LOG = hooks.log\n")
    })
}

fn install(dir: &Path, hook: &str) -> PathBuf {
    let phase = match hook {
        OPEN => "instance-migrate-pre.d",
        _ => "instance-start-pre.d",
    };
    let dir = dir.join("hooks").join(phase);
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(hook);
    if !path.exists() {
        symlink(program("archip-ganeti"), &path).unwrap();
    }
    path
}

/// The exit status, and everything it said, as Ganeti keeps it.
fn run(node: &RealNode, hook: &str, variables: &[Variable<'_>]) -> (i32, String) {
    let output = Command::new(install(node.dir(), hook))
        .env_clear()
        .env("PATH", "/sbin:/bin:/usr/sbin:/usr/bin")
        .env("ARCHIPELAGO_CONF", &node.file)
        .envs(variables.iter().copied())
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

/// What Ganeti says of an instance on `primary` with two disks of ours and one of another's.
fn instance<'a>(primary: &'a str) -> Vec<Variable<'a>> {
    vec![
        ("GANETI_HOOKS_PHASE", "pre"),
        ("GANETI_INSTANCE_NAME", "web1.example.org"),
        ("GANETI_INSTANCE_PRIMARY", primary),
        ("GANETI_INSTANCE_DISK_TEMPLATE", "ext"),
        ("GANETI_INSTANCE_DISK_COUNT", "3"),
        ("GANETI_INSTANCE_DISK0_PROVIDER", "archipelago"),
        ("GANETI_INSTANCE_DISK0_TEMPLATE_NAME", "ext"),
        ("GANETI_INSTANCE_DISK0_ID", ID),
        ("GANETI_INSTANCE_DISK1_PROVIDER", "elsewhere"),
        ("GANETI_INSTANCE_DISK1_ID", "not.ours.disk1"),
        ("GANETI_INSTANCE_DISK2_PROVIDER", "vlmc"),
        ("GANETI_INSTANCE_DISK2_ID", "b2.ext.disk2"),
        ("GANETI_INSTANCE_DISK2_NAME", "snf-vol-2"),
    ]
}

const VOLUMES: [&str; 2] = [ID, "snf-vol-2"];

fn create_volumes(node: &RealNode) {
    let client = node.client();
    for volume in VOLUMES {
        client.create(name(volume), 1 << 20).unwrap();
    }
}

#[test]
fn the_hooks_take_the_instances_volumes_for_its_primary_node() {
    let Some(host) = fqdn("the_hooks_take_the_instances_volumes_for_its_primary_node") else {
        return;
    };
    for (hook, done) in [(OPEN, "opened"), (LOCK, "locked")] {
        let parent = tempfile::tempdir().unwrap();
        let node = logging(&parent);
        create_volumes(&node);
        let before = files(node.dir());
        for stranger in [
            instance("another.example.org"),
            [
                instance(&host),
                vec![("GANETI_INSTANCE_DISK_TEMPLATE", "drbd")],
            ]
            .concat(),
        ] {
            assert_eq!(run(&node, hook, &stranger), (0, String::new()));
        }
        assert_eq!(files(node.dir()), before);
        // As often as Ganeti likes.
        for _ in 0..2 {
            assert_eq!(run(&node, hook, &instance(&host)), (0, String::new()));
        }
        for volume in VOLUMES {
            assert!(is_ours(&node, volume), "{hook}: {volume}");
        }
        let log = std::fs::read_to_string(node.dir().join("hooks.log")).unwrap();
        for index in [0, 2] {
            let lines = log
                .lines()
                .filter(|line| line.contains(&format!("{done} volume {index}")));
            assert_eq!(lines.count(), 2, "{log}");
        }
        assert!(
            log.contains("web1.example.org") && !log.contains("not.ours"),
            "{log}"
        );
        // What the hook locked, the instance's end gives back.
        let ganeti = Ganeti::on(&node);
        for volume in VOLUMES {
            ganeti.call("close", &[("VOL_NAME", volume)]).says("");
            assert!(!is_ours(&node, volume), "{hook}: {volume}");
        }
        drop(ganeti);
        assert!(node.stop().unwrap().success());
    }
}

/// The instance must not start or move: Ganeti aborts its job.
#[test]
fn a_volume_that_another_node_holds_fails_the_hook() {
    let Some(host) = fqdn("a_volume_that_another_node_holds_fails_the_hook") else {
        return;
    };
    let parent = tempfile::tempdir().unwrap();
    let holder = node(&parent, Endpoint::Nbd);
    let node = beside(&parent, &holder);
    create_volumes(&holder);
    holder
        .client()
        .open(name("snf-vol-2"), client::Hint::default())
        .unwrap();
    let elsewhere = "\"snf-vol-2\": it is locked or in use elsewhere\n";
    for (hook, sentence) in [
        (OPEN, "Failed to open volume 2: opening of "),
        (LOCK, "Failed to lock volume 2: locking of "),
    ] {
        let (status, said) = run(&node, hook, &instance(&host));
        // The log's directory is not there: that alone keeps no instance from starting.
        let said = said
            .lines()
            .filter(|line| !line.starts_with("can't write to "));
        let said: String = said.map(|line| format!("{line}\n")).collect();
        assert_eq!(
            (status, said),
            (1, format!("{sentence}{elsewhere}")),
            "{hook}"
        );
    }
    assert!(!is_ours(&node, "snf-vol-2") && is_ours(&holder, "snf-vol-2"));
    assert!(node.stop().unwrap().success() && holder.stop().unwrap().success());
}

#[test]
fn what_is_wrong_with_an_instance_fails_the_hook_and_changes_nothing() {
    let Some(host) = fqdn("what_is_wrong_with_an_instance_fails_the_hook_and_changes_nothing")
    else {
        return;
    };
    let parent = tempfile::tempdir().unwrap();
    let node = logging(&parent);
    let before = files(node.dir());
    let with = |change: Variable<'static>| {
        let (variable, _) = change;
        let mut variables = instance(&host);
        variables.retain(|(kept, _)| *kept != variable);
        [variables, vec![change]].concat()
    };
    let no_volume = "there is no such volume, object or lock\n";
    let unknown = [
        (
            OPEN,
            format!("Failed to open volume 0: opening of \"{ID}\": {no_volume}"),
        ),
        // No lock file is made for what is not there.
        (
            LOCK,
            format!("Failed to lock volume 0: info of \"{ID}\": {no_volume}"),
        ),
    ];
    for (hook, sentence) in unknown {
        assert_eq!(run(&node, hook, &instance(&host)), (1, sentence));
        let missing = "The environment variable GANETI_INSTANCE_DISK0_ID is missing.\n";
        let verb = if hook == OPEN { "open" } else { "lock" };
        let sentence = format!("Failed to {verb} volume 0: {missing}");
        let said = run(&node, hook, &with(("GANETI_INSTANCE_DISK0_ID", "")));
        assert_eq!(said, (1, sentence));
        let said = run(&node, hook, &with(("GANETI_INSTANCE_DISK_COUNT", "two")));
        let sentence = "The environment variable GANETI_INSTANCE_DISK_COUNT is `two`, which is not a \
                        number of disks.\nWrong environment. Aborting...\n";
        assert_eq!(said, (1, sentence.to_owned()));
    }
    assert_eq!(files(node.dir()), before);
    let log = std::fs::read_to_string(node.dir().join("hooks.log")).unwrap();
    assert!(log.contains("Failed to open volume 0") && log.contains("Failed to lock volume 0"));
    assert!(node.stop().unwrap().success());
}

/// Whether this host is meant is decided as Python's `socket.getfqdn()` would: in namespaces with
/// a host name and an /etc/hosts of their own, Python and the hook are asked side by side. A hook
/// that is meant looks for its configuration, which is not there.
#[test]
fn the_hosts_name_is_the_one_that_python_tells() {
    let test = "the_hosts_name_is_the_one_that_python_tells";
    if fqdn(test).is_none() {
        return;
    }
    if !Uid::effective().is_root() {
        eprintln!("skipped: {test}: namespaces need root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let hook = install(dir.path(), OPEN);
    let table = [
        (
            "node7",
            "127.0.0.1 localhost\n127.0.1.1 node7.example.org node7\n",
        ),
        (
            "node7",
            "127.0.0.1 localhost\n10.9.9.9 node7 node7.example.net node7.example.org\n",
        ),
        (
            "node7",
            "127.0.0.1 localhost\n10.9.9.9 other\n10.9.9.9 node7.example.org node7\n",
        ),
        ("node7", "127.0.0.1 localhost node7\n"),
        ("node7", "127.0.0.1 localhost.localdomain localhost node7\n"),
        ("node7", "::1 localhost\n::1 node7.example.org node7\n"),
        ("node7.example.com", "10.9.9.9 node7.example.com node7\n"),
        ("node7.nowhere.invalid", "127.0.0.1 localhost\n"),
        ("node7", "127.0.0.1 localhost\n"),
    ];
    for (host, hosts) in table {
        std::fs::write(dir.path().join("hosts"), hosts).unwrap();
        std::fs::write(dir.path().join("nsswitch.conf"), "hosts: files\n").unwrap();
        let script = format!(
            "mount --bind hosts /etc/hosts && mount --bind nsswitch.conf /etc/nsswitch.conf && \
             printf %s {host} >/proc/sys/kernel/hostname && \
             name=$({PYTHON} -c 'import socket; print(socket.getfqdn())') && echo $name && \
             for primary in $name x.$name; do \
             env -i ARCHIPELAGO_CONF=/nowhere.conf GANETI_INSTANCE_DISK_TEMPLATE=ext \
             GANETI_INSTANCE_PRIMARY=$primary {} 2>&1; echo $?; done",
            hook.display()
        );
        let output = Command::new("unshare")
            .args(["--uts", "--mount", "sh", "-c", &script])
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{host} {hosts}: {output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 4, "{host} {hosts}: {said}");
        assert!(
            lines[1].contains("Cannot read config file"),
            "{host} {hosts}: {said}"
        );
        assert_eq!(lines[2..], ["1", "0"], "{host} {hosts}: {said}");
    }
}
