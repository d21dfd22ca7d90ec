//! xseg and archip-bench.

use crate::lab::{Lab, Said, Storage};
use std::io::Write;
use std::process::Stdio;

on_each! {
    files, rados =>
        requests_go_to_a_port,
        a_bench_finds_what_another_wrote_and_nothing_else,
}

const SPEC: &str = "posix:other:64:128:64";

#[test]
fn a_segment_is_made_joined_and_destroyed_without_a_node() {
    let lab = Lab::new(true);
    let xseg = |words: &str| lab.xseg(&format!("{SPEC} {words}"));
    assert!(xseg("join").err.starts_with("cannot join segment! "));
    xseg("create join verify destroy").is(
        0,
        "",
        "Segment initialized.\nSegment joined.\nNothing is wrong.\nSegment destroyed.\n",
    );
    let said = xseg("destroy");
    assert!(
        said.status == 1 && said.err.starts_with("cannot destroy segment! "),
        "{said:?}"
    );
    xseg("create").is(0, "", "Segment initialized.\n");
    let said = xseg("create");
    assert!(
        said.status == 1 && said.err.starts_with("cannot create segment! "),
        "{said:?}"
    );
    let report = xseg("reportall --format json");
    let value: serde_json::Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(value["regions"][0]["region"], 0);
    xseg("destroy").is(0, "", "Segment destroyed.\n");
    assert_eq!(
        lab.command("xseg")
            .arg(SPEC)
            .output()
            .unwrap()
            .status
            .code(),
        Some(1)
    );
}

fn requests_go_to_a_port(storage: &Storage) {
    let lab = storage.started(true);
    let mut command = lab.command("xseg");
    let words = "posix:archipelago: :1 write an-object 0 wait 1 read an-object 2 3 \
                 info an-object wait 2";
    command.args(words.split_whitespace());
    let piped = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut xseg = piped.spawn().unwrap();
    xseg.stdin.take().unwrap().write_all(b"contents").unwrap();
    let said = Said::from(xseg.wait_with_output().unwrap());
    assert_eq!((said.status, said.out.as_str()), (0, "nte"), "{said:?}");
    assert!(
        said.err.contains("info of an-object: 8 bytes\n"),
        "{said:?}"
    );
    let said = lab.xseg("posix:archipelago: :1 delete an-object delete an-object wait 2");
    assert_eq!(said.status, 1, "{said:?}");
    assert!(
        lab.xseg("posix:archipelago: destroy")
            .err
            .contains("`archipelago stop` ends it")
    );
    let said = lab.xseg("posix:archipelago: recoverport 3 recoverlocks 7 signal 3 verify-fix");
    assert_eq!(said.status, 0, "{said:?}");
}

#[test]
fn the_tool_serves_itself() {
    let lab = Lab::started(true);
    let xseg = |words: &str| lab.xseg(&format!("posix:archipelago: {words}"));
    // The exit status is the last command's.
    let said = xseg(
        "bind 60 :60 info an-object read an-object 0 512 report complete 1 fail 1 report wait 2 \
         free 60",
    );
    let mut lines = said.err.lines();
    let (before, after) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(before.starts_with("port 60: seat ") && before.contains("2 requests wait"));
    assert!(after.ends_with("0 requests wait, 0 are worked on"));
    let rest: Vec<_> = lines.collect();
    assert_eq!(
        rest,
        ["info of an-object: 0 bytes", "read of an-object: I/O error"]
    );
    assert_eq!((said.status, said.out.as_str()), (0, ""));
    let said = xseg("alloc_requests 5 free_requests 5 free_requests 1 free 60 bind 3 bind 999");
    let mut lines = said.err.lines();
    assert_eq!(lines.next(), Some("only 0 of 1 requests were allocated"));
    assert_eq!(lines.next(), Some("port 60 is not bound here"));
    assert!(
        lines
            .next()
            .unwrap()
            .starts_with("cannot bind port 3: seat ")
    );
    assert_eq!(lines.next(), Some("the segment has no port 999"));
    assert_eq!((said.status, lines.next()), (1, None));
    assert_eq!(xseg("alloc_requests 99999").status, 1);
    xseg("rndread 1 2 3").is(
        255,
        "",
        "rndread has no meaning in this segment; --help says why\n",
    );
    xseg("verify").is(0, "", "Nothing is wrong.\n");
}

fn a_bench_finds_what_another_wrote_and_nothing_else(storage: &Storage) {
    let lab = storage.started(true);
    let bench = |words: &str| lab.run("archip-bench", words);
    let right = |said: Said| {
        assert!(
            said.status == 0 && said.out.contains("failed 0"),
            "{said:?}"
        )
    };
    right(bench(
        "-op write -tp 1 -to 2 -os 64k --iodepth 4 --seed 9 --verify meta",
    ));
    right(bench(
        "-op read --pattern rand -tp 1 -to 2 -os 64k --seed 9 --verify meta",
    ));
    right(bench("-op info -tp 1 -to 2 --seed 9"));
    right(bench(
        "-op info -tp 1 -to 2 --seed 9 --ping yes --progress no --ptype io --pinterval 3 \
         --insanity manic",
    ));
    let nobody = bench("-op info -tp 60 -to 2 --ping yes");
    nobody.is(
        255,
        "",
        "port 60 takes no request: No such device or address\n",
    );
    assert_eq!(bench("-op info -tp 1 -to 2 --pinterval 0%").status, 2);
    let other = bench("-op read -tp 1 -to 2 -os 64k --seed 10 --verify meta");
    assert_eq!(
        (other.status, other.out.contains("failed 32,")),
        (255, true),
        "{other:?}"
    );
    right(bench("-op delete -tp 1 -to 2 --seed 9"));
    let json = bench("-op write -tp 1 -ts 64k --objname object -rc 5 --format json").out;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&value["requests"], &value["failed"]),
        (&5.into(), &0.into())
    );
    assert_eq!(bench("-op read").status, 255);
    assert_eq!(bench("-op read -tp 1 -ts 1x").status, 2);
}
