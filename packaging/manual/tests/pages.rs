//! Every program has its pages and completions, and the programs that read them accept them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// What is installed, by hand: a program that is forgotten in the list of the library is missing.
const PAGES: [&str; 14] = [
    "archip-bench.1",
    "vlmc.1",
    "xseg.1",
    "archip-filed.8",
    "archip-fuse.8",
    "archip-ganeti.8",
    "archip-mapperd.8",
    "archip-nbd.8",
    "archip-node.8",
    "archip-poold.8",
    "archip-radosd.8",
    "archip-vlmcd.8",
    "archipelago.8",
    "finalize_upgrade_0.4.8",
];
const SUBCOMMANDS: [&str; 7] = [
    "vlmc-create.1",
    "vlmc-snapshot.1",
    "vlmc-map.1",
    "vlmc-check.1",
    "vlmc-migrate.1",
    "archipelago-start.8",
    "archipelago-stop.8",
];
/// Hidden, or of clap itself.
const NO_PAGES: [&str; 4] = [
    "vlmc-rm.1",
    "vlmc-help.1",
    "vlmc-completions.1",
    "archipelago-supervise.8",
];

fn files(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

/// `None`, and a word, when there is no such program.
fn run(program: &str, words: &[&str], file: &Path) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(words).arg(file).stdin(Stdio::null());
    match command
        .env("LC_ALL", "C.UTF-8")
        .env("MANWIDTH", "100")
        .output()
    {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no {program}");
            None
        }
        output => Some(output.unwrap()),
    }
}

#[test]
fn every_program_and_subcommand_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    manual::man_pages(dir.path()).unwrap();
    for page in PAGES.iter().chain(&SUBCOMMANDS) {
        let text = fs::read_to_string(dir.path().join(page)).unwrap_or_else(|why| {
            panic!("{page}: {why}");
        });
        let (name, section) = page.rsplit_once('.').unwrap();
        assert!(text.contains(&format!(".TH {name} {section}")), "{text}");
        for part in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS"] {
            assert!(text.contains(part), "{page} has no {part}");
        }
    }
    for page in NO_PAGES {
        assert!(!dir.path().join(page).exists(), "{page}");
    }
    // The command line and the page are one: this option is newer than the library.
    let filed = fs::read_to_string(dir.path().join("archip-filed.8")).unwrap();
    assert!(filed.contains("\\-\\-sandbox"), "{filed}");
}

#[test]
fn the_pages_are_rendered_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    manual::man_pages(dir.path()).unwrap();
    for page in files(dir.path()) {
        let words = ["--warnings", "-E", "UTF-8", "-l"];
        let Some(output) = run("man", &words, &page) else {
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.is_empty(),
            "{page:?}: {said}"
        );
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("SYNOPSIS"), "{page:?}: {text}");
    }
}

#[test]
fn shells_accept_their_completions() {
    let dir = tempfile::tempdir().unwrap();
    manual::completions(dir.path()).unwrap();
    for page in PAGES {
        let (program, _) = page.rsplit_once('.').unwrap();
        let completions = [
            ("bash", format!("{program}.bash")),
            ("zsh", format!("_{program}")),
            ("fish", format!("{program}.fish")),
        ];
        for (shell, file) in completions {
            let file = dir.path().join(file);
            assert!(file.exists(), "{} is missing", file.display());
            if let Some(output) = run(shell, &["-n"], &file) {
                assert!(output.status.success(), "{output:?}");
            }
        }
    }
}
