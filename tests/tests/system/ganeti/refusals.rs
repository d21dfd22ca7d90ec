//! What is refused: in which words, with which status, and nothing is changed.

use super::driver::{Ganeti, Variable};
use super::scripts::{ID, beside, edited, node};
use client::Hint;
use config::Endpoint;
use std::process::Command;
use system_tests::golden::name;
use system_tests::golden::tree::files;

const SCRIPTS: [&str; 10] = [
    "create", "attach", "detach", "remove", "grow", "setinfo", "verify", "snapshot", "open",
    "close",
];

/// The two lines about a variable.
fn wrong(what: &str) -> String {
    format!("The environment variable {what}\nWrong environment. Aborting...\n")
}

#[test]
fn a_call_without_its_variables_says_which_in_two_lines() {
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, Endpoint::Nbd);
    let ganeti = Ganeti::on(&node);
    let before = files(node.dir());
    for script in SCRIPTS {
        for none in [&[][..], &[("VOL_NAME", "")]] {
            ganeti
                .call(script, none)
                .fails(&wrong("VOL_NAME is missing."));
        }
    }
    let disk = ("VOL_NAME", ID);
    let table: [(&str, &[Variable<'_>], &str); 10] = [
        ("create", &[disk], "VOL_SIZE is missing."),
        (
            "grow",
            &[disk, ("VOL_SIZE", "1")],
            "VOL_NEW_SIZE is missing.",
        ),
        ("snapshot", &[disk], "VOL_SNAPSHOT_NAME is missing."),
        (
            "create",
            &[disk, ("VOL_SIZE", "big")],
            "VOL_SIZE is `big`, which is not a size in MiB.",
        ),
        (
            "create",
            &[disk, ("VOL_SIZE", "1.5")],
            "VOL_SIZE is `1.5`, which is not a size in MiB.",
        ),
        (
            "create",
            &[disk, ("VOL_SIZE", "-1")],
            "VOL_SIZE is `-1`, which is not a size in MiB.",
        ),
        (
            "create",
            &[disk, ("VOL_SIZE", "17592186044416")],
            "VOL_SIZE is `17592186044416`, which is not a size in MiB.",
        ),
        (
            "create",
            &[
                disk,
                ("VOL_SIZE", "1"),
                ("EXTP_ORIGIN", "snapshot-1"),
                ("EXTP_ORIGIN_SIZE", "?"),
            ],
            "EXTP_ORIGIN_SIZE is `?`, which is not a size in bytes.",
        ),
        (
            "grow",
            &[disk, ("VOL_NEW_SIZE", "2G")],
            "VOL_NEW_SIZE is `2G`, which is not a size in MiB.",
        ),
        (
            "open",
            &[disk, ("VOL_OPEN_EXCLUSIVE", "maybe")],
            "VOL_OPEN_EXCLUSIVE is `maybe`, which is not True or False.",
        ),
    ];
    for (script, variables, what) in table {
        ganeti.call(script, variables).fails(&wrong(what));
    }
    assert_eq!(files(node.dir()), before);
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}

/// Each as Archipelago's own error, in one sentence that names what is at fault.
#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, Endpoint::Nbd);
    let ganeti = Ganeti::on(&node);
    let client = node.client();
    client.create(name("snf-vol-1"), 8 << 20).unwrap();
    client
        .snapshot(name("snf-vol-1"), name("snf-snap-1"), Hint::default())
        .unwrap();
    let before = files(node.dir());
    let disk = ("VOL_NAME", ID);
    let there = ("VOL_NAME", "snf-vol-1");
    let no_volume = "there is no such volume, object or lock";
    let table: [(&str, &[Variable<'_>], &str, String); 15] = [
        (
            "attach",
            &[disk],
            "",
            format!("{ID}: volume \"{ID}\": there is no such volume"),
        ),
        (
            "remove",
            &[disk],
            "Deleting 'ID'\n",
            format!("vlmc removal failed: removal of \"{ID}\": {no_volume}"),
        ),
        (
            "grow",
            &[disk, ("VOL_NEW_SIZE", "9")],
            "",
            format!("vlmc resize failed: info of \"{ID}\": {no_volume}"),
        ),
        (
            "grow",
            &[there, ("VOL_NEW_SIZE", "7")],
            "",
            "vlmc resize failed: VOL_NEW_SIZE (7 MiB) is less than the 8388608 bytes of snf-vol-1"
                .into(),
        ),
        (
            "snapshot",
            &[disk, ("VOL_SNAPSHOT_NAME", "snf-snap-2")],
            "Creating snapshot 'snf-snap-2' from 'ID'\n",
            format!("vlmc snapshot failed: snapshot of \"{ID}\" as \"snf-snap-2\": {no_volume}"),
        ),
        (
            "snapshot",
            &[there, ("VOL_SNAPSHOT_NAME", "snf-snap-1")],
            "Creating snapshot 'snf-snap-1' from 'snf-vol-1'\n",
            "vlmc snapshot failed: snapshot of \"snf-vol-1\" as \"snf-snap-1\": the name is taken"
                .into(),
        ),
        (
            "snapshot",
            &[there, ("VOL_SNAPSHOT_NAME", "archip_snap")],
            "",
            "Invalid snapshot name".into(),
        ),
        (
            "open",
            &[disk],
            "",
            format!("vlmc open failed: opening of \"{ID}\": {no_volume}"),
        ),
        (
            "open",
            &[("VOL_NAME", "snf-snap-1")],
            "",
            "vlmc open failed: opening of \"snf-snap-1\": it is read-only".into(),
        ),
        (
            "close",
            &[disk],
            "",
            format!("vlmc close failed: closing of \"{ID}\": {no_volume}"),
        ),
        (
            "create",
            &[there, ("VOL_SIZE", "1")],
            "Creating volume 'snf-vol-1' of size '1'\n",
            "vlmc creation failed: creation of \"snf-vol-1\" with 1048576 bytes: the name is taken"
                .into(),
        ),
        (
            "create",
            &[disk, ("VOL_SIZE", "1"), ("EXTP_ORIGIN", "nothing-there")],
            "Creating volume 'ID' of size '1' from 'nothing-there'\n",
            format!(
                "vlmc creation failed: creation of \"{ID}\" from \"nothing-there\" with 1048576 \
                 bytes: {no_volume}"
            ),
        ),
        (
            "create",
            &[("VOL_NAME", "five5"), ("VOL_SIZE", "1")],
            "Creating volume 'five5' of size '1'\n",
            "Name should have at least len 6".into(),
        ),
        (
            "attach",
            &[("VOL_NAME", "../../../etc")],
            "",
            "Invalid volume name `../../../etc`: a name may not contain '/'".into(),
        ),
        (
            "detach",
            &[("VOL_NAME", "snf-vol-1"), ("VOL_CNAME", "\u{1b}[2J")],
            "",
            String::new(),
        ),
    ];
    for (script, variables, chatter, sentence) in table {
        let said = ganeti.call(script, variables);
        if sentence.is_empty() {
            said.says("");
            continue;
        }
        let chatter = chatter.replace("ID", ID);
        said.fails(&format!("{chatter}Archipelago error: {sentence}\n"));
    }
    assert_eq!(files(node.dir()), before);
    node.await_empty_segment();
    drop((client, ganeti));
    assert!(node.stop().unwrap().success());
}

/// What another host holds is left alone.
#[test]
fn a_volume_that_another_host_holds_is_left_alone() {
    let parent = tempfile::tempdir().unwrap();
    let one = node(&parent, Endpoint::Nbd);
    let other = beside(&parent, &one);
    let ganeti = Ganeti::on(&other);
    one.client().create(name(ID), 8 << 20).unwrap();
    one.client().open(name(ID), Hint::default()).unwrap();
    let before = files(one.dir());
    let held = "it is locked or in use elsewhere\n";
    let table: [(&str, &[Variable<'_>]); 4] = [
        ("open", &[("VOL_NAME", ID)]),
        ("remove", &[("VOL_NAME", ID)]),
        ("grow", &[("VOL_NAME", ID), ("VOL_NEW_SIZE", "16")]),
        (
            "snapshot",
            &[("VOL_NAME", ID), ("VOL_SNAPSHOT_NAME", "snf-snap-1")],
        ),
    ];
    for (script, variables) in table {
        let said = ganeti.call(script, variables);
        assert!(
            said.status == 1 && said.log.ends_with(held),
            "{script}: {said:?}"
        );
        assert!(
            said.log.contains("Archipelago error: vlmc "),
            "{script}: {said:?}"
        );
    }
    assert_eq!(files(one.dir()), before);
    drop(ganeti);
    assert!(other.stop().unwrap().success() && one.stop().unwrap().success());
}

#[test]
fn a_node_that_is_not_there_is_said_to_be_so() {
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, Endpoint::Nbd);
    let ganeti = Ganeti::on(&node);
    let (socket, file) = (node.socket(), node.file.clone());
    let kept = node.stop_and_keep().unwrap();
    let nobody = format!(
        "Archipelago error: Archipelago is not running: nobody listens at {}\n",
        socket.display()
    );
    let disk = [("VOL_NAME", ID), ("VOL_CNAME", "snf-vol-1")];
    for script in ["attach", "remove", "open", "close"] {
        ganeti.call(script, &disk).fails(&nobody);
    }
    for script in ["detach", "setinfo", "verify"] {
        ganeti.call(script, &disk).says("");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    for (broken, sentence) in [
        (
            text.replace("[XSEG]", "[YSEG]"),
            "[XSEG]: the section is missing",
        ),
        (
            text.replace("nr_ops = 64", "nr_ops = 63"),
            "nr_ops of blockerb is not a power of 2",
        ),
        (
            format!("{text}\n[GANETI]\nVOLUME_NAME = x\n"),
            "is not one of auto, VOL_CNAME, VOL_NAME",
        ),
    ] {
        std::fs::write(&file, broken).unwrap();
        let said = ganeti.call("attach", &disk);
        let start = format!("Archipelago error: {}", file.display());
        assert!(
            said.status == 1 && said.log.starts_with(&start) && said.log.contains(sentence),
            "{said:?}"
        );
        assert_eq!(said.log.lines().count(), 1, "{said:?}");
    }
    std::fs::remove_file(&file).unwrap();
    let said = ganeti.call("detach", &disk);
    assert!(
        said.status == 1 && said.log.contains("Cannot read config file"),
        "{said:?}"
    );
    drop(kept);
}

#[test]
fn a_node_without_devices_attaches_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let node = edited(&parent, Endpoint::Nbd, |text| {
        text.replace("BLKTAP_ENABLED = True", "BLKTAP_ENABLED = False")
    });
    let ganeti = Ganeti::on(&node);
    let disk = [("VOL_NAME", ID), ("VOL_SIZE", "1")];
    assert_eq!(ganeti.call("create", &disk).status, 0);
    ganeti
        .call("attach", &disk)
        .fails("Archipelago error: Blktap module is disabled.\n");
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}

/// Ganeti never passes an argument; whoever does is told what the script is for.
#[test]
fn arguments_get_usage_and_unknown_names_a_sentence() {
    let parent = tempfile::tempdir().unwrap();
    let node = node(&parent, Endpoint::Nbd);
    let ganeti = Ganeti::on(&node);
    let run = |mut command: Command, words: &[&str]| {
        let output = command.args(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    for script in SCRIPTS {
        let usage = format!("Usage: {script}\n");
        for help in ["-h", "--help"] {
            let (status, out, err) = run(ganeti.command(script, &[]), &[help]);
            assert!(
                status == 0 && out.starts_with(&usage) && err.is_empty(),
                "{out}{err}"
            );
            assert!(out.contains("VOL_NAME"), "{out}");
        }
        let (status, out, err) = run(ganeti.command(script, &[]), &["word", "word"]);
        assert!(
            status == 2 && out.is_empty() && err.starts_with(&usage),
            "{out}{err}"
        );
    }
    let own = system_tests::real::program("archip-ganeti");
    let (status, out, err) = run(Command::new(&own), &["--version"]);
    assert!(
        status == 0 && out.starts_with("archip-ganeti ") && err.is_empty(),
        "{out}{err}"
    );
    let renamed = node.dir().join("rename");
    std::os::unix::fs::symlink(own, &renamed).unwrap();
    let (status, out, err) = run(Command::new(&renamed), &[]);
    let sentence = "Action 'rename' not supported\n";
    assert_eq!((status, out.as_str(), err.as_str()), (1, "", sentence));
    drop(ganeti);
    assert!(node.stop().unwrap().success());
}
