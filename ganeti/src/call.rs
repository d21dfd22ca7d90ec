//! Which scripts and hooks there are, and their help: one table, of which usage and man page are
//! made.

use std::fmt::Write;

/// A script or hook, by the name of its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// `create`
    Create,
    /// `attach`
    Attach,
    /// `detach`
    Detach,
    /// `remove`
    Remove,
    /// `grow`
    Grow,
    /// `setinfo`
    Setinfo,
    /// `verify`
    Verify,
    /// `snapshot`
    Snapshot,
    /// `open`
    Open,
    /// `close`
    Close,
    /// The hook `archip-openvolumes`
    OpenVolumes,
    /// The hook `archip-lockvolumes`
    LockVolumes,
}

/// What people are told of a call.
struct Help {
    call: Call,
    name: &'static str,
    about: &'static str,
    variables: &'static [Variable],
}

/// A variable's name, and what it means.
type Variable = (&'static str, &'static str);

const ID: Variable = ("VOL_NAME", "Ganeti's id of the disk (required)");
const CNAME: Variable = ("VOL_CNAME", "the disk's own name, if it has one");

const DISKS: &[Variable] = &[
    (
        "GANETI_INSTANCE_PRIMARY",
        "the hook does nothing on other hosts",
    ),
    (
        "GANETI_INSTANCE_DISK_TEMPLATE",
        "the hook does nothing unless it is ext",
    ),
    (
        "GANETI_INSTANCE_DISK_COUNT",
        "how many disks there are (required)",
    ),
    (
        "GANETI_INSTANCE_DISKn_PROVIDER",
        "archipelago or vlmc; others are passed over",
    ),
    (
        "GANETI_INSTANCE_DISKn_ID",
        "as VOL_NAME of the scripts (required)",
    ),
    ("GANETI_INSTANCE_DISKn_NAME", "as VOL_CNAME of the scripts"),
];

const CALLS: [Help; 12] = [
    Help {
        call: Call::Create,
        name: "create",
        about: "Make the disk's volume, blank or from a snapshot or Pithos map",
        variables: &[
            ID,
            CNAME,
            ("VOL_SIZE", "its size in MiB (required)"),
            ("EXTP_ORIGIN", "the snapshot or map that it starts from"),
            (
                "EXTP_ORIGIN_SIZE",
                "bytes of an origin that is an old Pithos map",
            ),
            (
                "EXTP_REUSE_DATA",
                "True: make nothing, the volume is there already",
            ),
        ],
    },
    Help {
        call: Call::Attach,
        name: "attach",
        about: "Map the volume here if it is not mapped, and print its block device and kvm:URI",
        variables: &[ID, CNAME],
    },
    Help {
        call: Call::Detach,
        name: "detach",
        about: "Unmap the volume here, if it is mapped",
        variables: &[ID, CNAME],
    },
    Help {
        call: Call::Remove,
        name: "remove",
        about: "Remove the volume",
        variables: &[ID, CNAME],
    },
    Help {
        call: Call::Grow,
        name: "grow",
        about: "Make the volume larger, mapped or not",
        variables: &[
            ID,
            CNAME,
            ("VOL_NEW_SIZE", "its new size in MiB (required)"),
        ],
    },
    Help {
        call: Call::Setinfo,
        name: "setinfo",
        about: "Do nothing: Archipelago keeps no text beside a volume",
        variables: &[ID],
    },
    Help {
        call: Call::Verify,
        name: "verify",
        about: "Do nothing: Ganeti does not call it",
        variables: &[ID],
    },
    Help {
        call: Call::Snapshot,
        name: "snapshot",
        about: "Freeze a read-only copy of the volume under a new name",
        variables: &[
            ID,
            CNAME,
            ("VOL_SNAPSHOT_NAME", "the snapshot's name (required)"),
        ],
    },
    Help {
        call: Call::Open,
        name: "open",
        about: "Take the volume's lock for this node; fail if another node has it",
        variables: &[
            ID,
            CNAME,
            ("VOL_OPEN_EXCLUSIVE", "False: take no lock (live migration)"),
        ],
    },
    Help {
        call: Call::Close,
        name: "close",
        about: "Flush the volume and give its lock back, if this node has it",
        variables: &[ID, CNAME],
    },
    Help {
        call: Call::OpenVolumes,
        name: "archip-openvolumes",
        about: "Hook of instance-migrate-pre.d: open the instance's volumes on its primary node",
        variables: DISKS,
    },
    Help {
        call: Call::LockVolumes,
        name: "archip-lockvolumes",
        about: "Hook of instance-start-pre.d: lock the instance's volumes on its primary node",
        variables: DISKS,
    },
];

impl Call {
    /// The script or hook of that name.
    pub(crate) fn named(name: &str) -> Option<Call> {
        let found = CALLS.iter().find(|help| help.name == name);
        found.map(|help| help.call)
    }
}

/// What the script of that name says when asked for help; the whole table for another name.
pub(crate) fn usage(name: &str) -> String {
    match CALLS.iter().find(|help| help.name == name) {
        Some(help) => format!("Usage: {}\n{}", help.name, help.text()),
        None => format!(
            "Usage: one of these names, without arguments\n\n{}",
            table()
        ),
    }
}

fn table() -> String {
    let texts = CALLS
        .iter()
        .map(|help| format!("{}\n{}", help.name, help.text()));
    texts.collect::<Vec<_>>().join("\n")
}

impl Help {
    fn text(&self) -> String {
        let mut text = format!("  {}\n", self.about);
        for (name, meaning) in self.variables {
            // A String takes everything.
            let _ = writeln!(text, "    {name:<30} {meaning}");
        }
        text
    }
}

const ABOUT: &str = "Archipelago's ExtStorage provider for Ganeti, and its hooks";

const LONG_ABOUT: &str = "Archipelago's ExtStorage provider for Ganeti, and its hooks.

One program does what the name says by which it was called: Ganeti finds it under the names of the \
provider's scripts, and of the hooks, and passes everything in variables of a clean environment. \
It exits with 0 or, after a sentence on standard error, with 1.";

const FILES: &str = "Files:
  /usr/share/ganeti/extstorage/archipelago/
    the scripts; the directory may have any name, and that name is the provider's
  /etc/ganeti/hooks/instance-migrate-pre.d/archip-openvolumes
  /etc/ganeti/hooks/instance-start-pre.d/archip-lockvolumes
  /etc/archipelago/archipelago.conf
    the node's configuration; the variable ARCHIPELAGO_CONF names another, for tests: Ganeti never
    sets it. VOLUME_NAME in its section [GANETI] says which of Ganeti's names for a disk is its
    volume's: VOL_CNAME, VOL_NAME, or auto (VOL_CNAME for new volumes and where there is one of
    that name, else VOL_NAME)
  /var/log/ganeti/hooks.log
    what the hooks did; HOOKS_LOG in [GANETI] names another file";

/// The command line, for the man page and completions.
pub fn command() -> clap::Command {
    clap::Command::new("archip-ganeti")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_long_help(format!("Scripts and hooks:\n\n{}\n{FILES}", table()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_known_by_its_name() {
        for help in &CALLS {
            assert_eq!(Call::named(help.name), Some(help.call));
            let usage = usage(help.name);
            assert!(
                usage.starts_with(&format!("Usage: {}\n", help.name)),
                "{usage}"
            );
            assert!(
                usage.contains(help.about) && !usage.contains("\n\n"),
                "{usage}"
            );
        }
        assert_eq!(Call::named("archip-ganeti"), None);
        assert_eq!(Call::named(""), None);
    }

    #[test]
    fn another_name_is_told_all_of_them() {
        let usage = usage("archip-ganeti");
        assert!(CALLS.iter().all(|help| usage.contains(help.about)));
    }
}
