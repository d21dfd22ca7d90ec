//! Keyrings, made with `ceph-authtool` before the monitor exists, so that no key costs a round trip.

use crate::{Options, USER};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a client's `mon` capability must say so that it may blocklist others, and no more.
pub const BLOCKLIST_CAPABILITY: &str =
    r#"allow r, allow command "osd blocklist" with blocklistop=add"#;

/// `keyring` (admin and archip), `archip.keyring` (only that, for any user of this machine),
/// `mon.keyring` (all of them), and one for each OSD.
pub(crate) fn make(dir: &Path, options: &Options) -> io::Result<()> {
    let all = dir.join("mon.keyring");
    let clients = dir.join("keyring");
    let user_only = dir.join(USER_KEYRING);
    add(&all, "mon.", true, &[("mon", "allow *")])?;
    let admin = ["mon", "osd", "mgr", "mds"].map(|service| (service, "allow *"));
    add(&clients, "client.admin", true, &admin)?;
    let user = format!("client.{USER}");
    let osd = osd_capability(options.pools.iter().chain(&options.later));
    let mon = mon_capability(options.may_blocklist);
    add(&user_only, &user, true, &[("mon", mon), ("osd", &osd)])?;
    std::fs::set_permissions(&user_only, Permissions::from_mode(0o644))?;
    import(&clients, &user_only)?;
    import(&all, &clients)?;
    for id in 0..options.osds {
        let folder = dir.join(format!("osd.{id}"));
        std::fs::create_dir(&folder)?;
        let keyring = folder.join("keyring");
        let capabilities = [
            ("mon", "allow profile osd"),
            ("osd", "allow *"),
            ("mgr", "allow profile osd"),
        ];
        add(&keyring, &format!("osd.{id}"), true, &capabilities)?;
        import(&all, &keyring)?;
    }
    Ok(())
}

/// The keyring that holds nothing but the key of `client.archip`.
pub(crate) const USER_KEYRING: &str = "archip.keyring";

pub(crate) fn mon_capability(may_blocklist: bool) -> &'static str {
    match may_blocklist {
        true => BLOCKLIST_CAPABILITY,
        false => "allow r",
    }
}

/// Reading and writing in these pools, and nothing anywhere else.
fn osd_capability<'a>(pools: impl Iterator<Item = &'a String>) -> String {
    let each: Vec<_> = pools.map(|pool| format!("allow rwx pool={pool}")).collect();
    each.join(", ")
}

fn add(keyring: &Path, name: &str, create: bool, capabilities: &[(&str, &str)]) -> io::Result<()> {
    let mut command = Command::new("ceph-authtool");
    command.arg(keyring).args(["--gen-key", "-n", name]);
    if create {
        command.arg("--create-keyring");
    }
    for (service, capability) in capabilities {
        command.args(["--cap", service, capability]);
    }
    finish(command)
}

fn import(into: &Path, from: &Path) -> io::Result<()> {
    let mut command = Command::new("ceph-authtool");
    command.arg(into).arg("--import-keyring").arg(from);
    finish(command)
}

fn finish(mut command: Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "ceph-authtool: {}",
            String::from_utf8_lossy(&output.stderr)
        ))),
    }
}
