//! The two hooks (`spec/ganeti.md` section 7). Both run on every node that Ganeti has in mind, and
//! do something on the instance's primary one alone.
//!
//! - before a migration the source opens the volumes, so that it surely has their locks before
//!   the target maps them;
//! - before a start the locks are taken, so that an instance whose volume another node holds does
//!   not start.
//!
//! What a hook says and a failure of it is output for Ganeti: standard output, as the original.

use crate::environment::Environment;
use crate::failure::Failure;
use crate::names::{DiskNames, existing};
use crate::node::Node;
use crate::{fqdn, log};
use client::{Client, Error, Hint, Name};
use config::VolumeNaming;

/// Ganeti's names for us: the package's directory, and that of release 0.3.
const PROVIDERS: [&str; 2] = ["archipelago", "vlmc"];
/// Ganeti's word for disks of an ExtStorage provider.
const EXT: &str = "ext";

/// What a hook does with each volume.
#[derive(Clone, Copy)]
pub(crate) struct Hook {
    verb: &'static str,
    done: &'static str,
    act: fn(&Client, Name) -> Result<(), Error>,
}

/// `archip-openvolumes`.
pub(crate) const OPEN: Hook = Hook {
    verb: "open",
    done: "opened",
    act: |client, volume| client.open(volume, Hint::default()),
};

/// `archip-lockvolumes`: straight at the blocker of locks. One that is not there is not locked.
pub(crate) const LOCK: Hook = Hook {
    verb: "lock",
    done: "locked",
    act: |client, volume| {
        client.info(volume, Hint::default())?;
        client.lock(volume)
    },
};

/// A disk of the instance that is ours.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Disk {
    index: u64,
    names: Result<DiskNames, Failure>,
}

pub(crate) fn run(hook: Hook, environment: &Environment) -> Result<(), Failure> {
    if !is_concerned(environment, &fqdn::fqdn())? {
        return Ok(());
    }
    let node = Node::load(environment)?;
    log::start(&node.config.ganeti.hooks_log);
    let instance = environment.get("GANETI_INSTANCE_NAME")?.unwrap_or("?");
    for disk in disks(environment, node.config.ganeti.volume_name)? {
        let index = disk.index;
        match disk.names.and_then(|names| one(hook, &node, &names)) {
            Ok(volume) => tracing::info!(instance, volume, "{} volume {index}", hook.done),
            Err(why) => {
                let text = format!("Failed to {} volume {index}: {}", hook.verb, why.reason());
                tracing::error!(instance, "{text}");
                println!("{text}");
                return Err(Failure::Told);
            }
        }
    }
    Ok(())
}

/// Whether this host is the instance's primary node, and its disks may be ours.
fn is_concerned(environment: &Environment, fqdn: &str) -> Result<bool, Failure> {
    let primary = environment.get("GANETI_INSTANCE_PRIMARY")?;
    let template = environment.get("GANETI_INSTANCE_DISK_TEMPLATE")?;
    Ok(primary == Some(fqdn) && template == Some(EXT))
}

/// The instance's disks that are ours.
fn disks(environment: &Environment, naming: VolumeNaming) -> Result<Vec<Disk>, Failure> {
    let variable = "GANETI_INSTANCE_DISK_COUNT";
    let count = environment.number(variable, "a number of disks")?;
    let count = count.ok_or_else(|| Failure::missing(variable))?;
    let mut disks = Vec::new();
    for index in 0..count {
        if is_ours(environment, index)? {
            let names = names(environment, index, naming);
            disks.push(Disk { index, names });
        }
    }
    Ok(disks)
}

fn variable(index: u64, what: &str) -> String {
    format!("GANETI_INSTANCE_DISK{index}_{what}")
}

/// Other providers look after their own disks.
fn is_ours(environment: &Environment, index: u64) -> Result<bool, Failure> {
    let provider = environment.get(&variable(index, "PROVIDER"))?;
    let template = environment.get(&variable(index, "TEMPLATE_NAME"))?;
    Ok(provider.is_some_and(|p| PROVIDERS.contains(&p)) && template.unwrap_or(EXT) == EXT)
}

/// A disk without a name is known by its id, whatever the policy: as in release 0.4.4.
fn names(
    environment: &Environment,
    index: u64,
    naming: VolumeNaming,
) -> Result<DiskNames, Failure> {
    let id = environment.need(&variable(index, "ID"))?.to_owned();
    let cname = environment.get(&variable(index, "NAME"))?;
    let instead = || (naming == VolumeNaming::Cname).then(|| id.clone());
    let cname = cname.map(str::to_owned).or_else(instead);
    Ok(DiskNames { id, cname })
}

fn one(hook: Hook, node: &Node, disk: &DiskNames) -> Result<String, Failure> {
    let volume = node.volume(disk, false)?;
    let name = existing(volume)?;
    (hook.act)(node.client()?, name).map_err(Failure::archipelago)?;
    Ok(volume.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "node1.example.org";

    #[test]
    fn only_the_primary_node_is_concerned_and_only_ext_disks() {
        let concerned = |primary: &str, template: &str| {
            let environment = Environment::from([
                ("GANETI_INSTANCE_PRIMARY", primary),
                ("GANETI_INSTANCE_DISK_TEMPLATE", template),
            ]);
            is_concerned(&environment, HOST).unwrap()
        };
        assert!(concerned(HOST, "ext"));
        assert!(!concerned("node2.example.org", "ext"));
        assert!(!concerned(HOST, "drbd") && !concerned("", "ext") && !concerned(HOST, ""));
    }

    #[test]
    fn the_disks_of_other_providers_are_passed_over() {
        let environment = Environment::from([
            ("GANETI_INSTANCE_DISK_COUNT", "4"),
            ("GANETI_INSTANCE_DISK0_PROVIDER", "archipelago"),
            ("GANETI_INSTANCE_DISK0_TEMPLATE_NAME", "ext"),
            ("GANETI_INSTANCE_DISK0_ID", "uuid.ext.disk0"),
            ("GANETI_INSTANCE_DISK0_NAME", "snf-vol-1"),
            ("GANETI_INSTANCE_DISK1_PROVIDER", "elsewhere"),
            ("GANETI_INSTANCE_DISK2_PROVIDER", "vlmc"),
            ("GANETI_INSTANCE_DISK2_ID", "uuid.ext.disk2"),
            ("GANETI_INSTANCE_DISK3_TEMPLATE_NAME", "plain"),
        ]);
        let disk = |index, id: &str, cname: Option<&str>| Disk {
            index,
            names: Ok(DiskNames {
                id: id.into(),
                cname: cname.map(str::to_owned),
            }),
        };
        let first = disk(0, "uuid.ext.disk0", Some("snf-vol-1"));
        let found = disks(&environment, VolumeNaming::Auto).unwrap();
        assert_eq!(found, [first.clone(), disk(2, "uuid.ext.disk2", None)]);
        let found = disks(&environment, VolumeNaming::Cname).unwrap();
        assert_eq!(
            found,
            [first, disk(2, "uuid.ext.disk2", Some("uuid.ext.disk2"))]
        );
    }

    #[test]
    fn a_disk_of_ours_without_an_id_is_a_failure() {
        let environment = Environment::from([
            ("GANETI_INSTANCE_DISK_COUNT", "1"),
            ("GANETI_INSTANCE_DISK0_PROVIDER", "archipelago"),
        ]);
        let found = disks(&environment, VolumeNaming::Auto).unwrap();
        assert_eq!(
            found[0].names,
            Err(Failure::missing("GANETI_INSTANCE_DISK0_ID"))
        );
        let none = Environment::from([]);
        assert!(disks(&none, VolumeNaming::Auto).is_err());
    }
}
