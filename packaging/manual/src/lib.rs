//! Man pages and completions of every program, made of the definitions that parse their command
//! lines: there is no second text to keep true.
//!
//! Programs for anybody are in section 1 of the manual, those for administrators and those that a
//! node starts by itself in section 8. A subcommand has a page of its own (`vlmc-create(1)`).

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use config::args::Executable;
use std::fs;
use std::io;
use std::path::Path;

/// Shells that completions are made for.
pub const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// The name of the manual, as it stands above each page.
const MANUAL: &str = "Archipelago";

/// Every program that is installed: its section, and its command line.
pub fn programs() -> Vec<(&'static str, Command)> {
    let mut programs = vec![
        ("1", vlmc::volumes::command()),
        ("1", vlmc::segment_tool::command()),
        ("1", vlmc::bench::command()),
        ("8", vlmc::node_tool::command()),
        ("8", vlmc::finalize::command()),
        ("8", node::command::ProcessArguments::command()),
        ("8", archip_nbd::Arguments::command()),
        ("8", archip_fuse::Arguments::command()),
        ("8", ganeti::command()),
    ];
    let peers = [
        Executable::Poold,
        Executable::Filed,
        Executable::Radosd,
        Executable::Mapperd,
        Executable::Vlmcd,
    ];
    programs.extend(peers.map(|peer| ("8", config::args::command(peer))));
    programs
}

/// Writes a page for each program and each subcommand that help shows into `dir`.
pub fn man_pages(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (section, command) in programs() {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        page(section, command, dir)?;
    }
    Ok(())
}

fn page(section: &str, command: Command, dir: &Path) -> io::Result<()> {
    let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
    for sub in shown.cloned() {
        page(section, sub, dir)?;
    }
    let source = format!("{MANUAL} {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command)
        .section(section)
        .source(source)
        .manual(MANUAL);
    man.generate_to(dir).map(drop)
}

/// Writes the completions of each program for each of [`SHELLS`] into `dir`.
pub fn completions(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    for (_, mut command) in programs() {
        let name = command.get_name().to_owned();
        for shell in SHELLS {
            clap_complete::generate_to(shell, &mut command, &name, dir)?;
        }
    }
    Ok(())
}
