//! From INI to types: the sections that every node has, in the original's order of checks.
//!
//! A [`Section`] notes every key that somebody asks for; what nobody asked for is unknown and
//! becomes a warning. So the readers are the only list of keys.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::account::{Caller, GroupAccount, UserAccount, find_group, find_user};
use crate::error::{ConfigError, ErrorKind, Fault, Warning};
use crate::ganeti;
use crate::ini::Ini;
use crate::node::{Archipelago, Endpoint, NodeConfig, Xseg};
use crate::paths;
use crate::ports::{PortNo, PortRange};
use crate::role::{Role, RoleKind, UMASK_DEFAULT};
use crate::segment::{ALIGNMENT, SegmentSpec, SegmentType};
use crate::{literal, read_role};

/// One section, with typed access to its keys. Keys are given in lower case; an empty value
/// counts as absent.
pub(crate) struct Section<'a> {
    ini: &'a Ini,
    pub(crate) name: &'a str,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Section<'a> {
    /// A section that must be there.
    pub(crate) fn open(ini: &'a Ini, name: &'a str) -> Result<Section<'a>, ConfigError> {
        if ini.has_section(name) {
            return Ok(Section::optional(ini, name));
        }
        let message = "the section is missing".to_owned();
        Err(ConfigError::new(
            ErrorKind::MissingSection,
            ini.section_place(name),
            message,
        ))
    }

    /// A section that has no keys where it is absent.
    pub(crate) fn optional(ini: &'a Ini, name: &'a str) -> Section<'a> {
        Section {
            ini,
            name,
            asked: RefCell::default(),
        }
    }

    /// The text of `key`, trimmed.
    pub(crate) fn text(&self, key: &'static str) -> Option<&'a str> {
        self.asked.borrow_mut().insert(key);
        let entry = self.ini.get(self.name, key)?;
        Some(entry.text.as_str()).filter(|text| !text.is_empty())
    }

    /// `value`, or the sentence that `key` is missing.
    pub(crate) fn need<T>(&self, key: &'static str, value: Option<T>) -> Result<T, ConfigError> {
        value.ok_or_else(|| self.error(ErrorKind::MissingKey, key, "the key is missing or empty"))
    }

    /// A decimal number that fits `T`.
    pub(crate) fn int<T: TryFrom<i64>>(&self, key: &'static str) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        let number = literal::decimal(text).ok_or_else(|| self.bad(key, text, "a whole number"))?;
        let fits = T::try_from(number).map(Some);
        fits.map_err(|_| {
            self.error(
                ErrorKind::OutOfRange,
                key,
                format!("{number} is out of range"),
            )
        })
    }

    /// A number whose prefix tells its base.
    pub(crate) fn literal(&self, key: &'static str) -> Result<Option<u32>, ConfigError> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        let number = literal::base_zero(text);
        number
            .map(Some)
            .ok_or_else(|| self.bad(key, text, "a number such as 0o007, 007 or 7"))
    }

    /// A boolean.
    pub(crate) fn boolean(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        let value = literal::boolean(text);
        value
            .map(Some)
            .ok_or_else(|| self.bad(key, text, "True or False"))
    }

    /// One of `words`, which `spell` writes.
    pub(crate) fn word<T: Copy>(
        &self,
        key: &'static str,
        words: &[T],
        spell: fn(T) -> &'static str,
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        let found = words.iter().copied().find(|word| spell(*word) == text);
        let list = || {
            words
                .iter()
                .map(|word| spell(*word))
                .collect::<Vec<_>>()
                .join(", ")
        };
        found
            .map(Some)
            .ok_or_else(|| self.bad(key, text, &format!("one of {}", list())))
    }

    /// A path, made absolute.
    pub(crate) fn path(&self, key: &'static str) -> Option<PathBuf> {
        self.text(key)
            .map(|text| paths::resolve(self.ini.base(), Path::new(text)))
    }

    /// A port number that must be there.
    pub(crate) fn port(&self, key: &'static str) -> Result<PortNo, ConfigError> {
        let number = self.int(key)?;
        self.need(key, number).map(PortNo)
    }

    /// A name that becomes part of file names.
    pub(crate) fn plain_name(&self, key: &'static str) -> Result<Option<&'a str>, ConfigError> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        match is_plain_name(text) {
            true => Ok(Some(text)),
            false => Err(self.bad(key, text, "a name of letters, digits, `.`, `_` and `-`")),
        }
    }

    /// An error at `key`.
    pub(crate) fn error(
        &self,
        kind: ErrorKind,
        key: &'static str,
        message: impl Into<String>,
    ) -> ConfigError {
        ConfigError::new(kind, self.ini.place(self.name, key), message)
    }

    /// A role's fault as an error of this section.
    pub(crate) fn fault(&self, fault: Fault) -> ConfigError {
        self.error(fault.kind, fault.key, fault.message)
    }

    fn bad(&self, key: &'static str, text: &str, wanted: &str) -> ConfigError {
        let message = format!("`{}` is not {wanted}", text.escape_debug());
        self.error(ErrorKind::BadValue, key, message)
    }

    /// A warning at `key`.
    pub(crate) fn warning(&self, key: &str, message: impl Into<String>) -> Warning {
        Warning {
            place: self.ini.place(self.name, key),
            message: message.into(),
        }
    }

    /// A warning for every key that nobody asked for.
    pub(crate) fn unknown_keys(&self) -> Vec<Warning> {
        let asked = self.asked.borrow();
        let unknown = self
            .ini
            .keys(self.name)
            .filter(|(key, _)| !asked.contains(key));
        let warn = |key: &str| {
            let meant = asked.get(key.replace('-', "_").as_str());
            let hint = meant.map_or(String::new(), |meant| format!("; `{meant}` is meant"));
            self.warning(key, format!("unknown key, ignored{hint}"))
        };
        unknown.map(|(key, _)| warn(key)).collect()
    }
}

/// Whether the name may become part of a file name as it is.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 64 && !name.starts_with('.') && name.chars().all(plain)
}

/// Reads everything, in the order in which the original checked.
pub(crate) fn node(ini: &Ini, caller: &Caller) -> Result<NodeConfig, ConfigError> {
    let xseg_section = Section::open(ini, "XSEG")?;
    let segment = segment(&xseg_section)?;
    let peers = Section::open(ini, "PEERS")?;
    let names = role_names(&peers)?;
    let main = Section::open(ini, "ARCHIPELAGO")?;
    let archipelago = archipelago(&main, caller)?;

    let mut warnings = Vec::new();
    let mut ports = Ports {
        limit: segment.ports,
        taken: Vec::new(),
    };
    let mut roles = Vec::new();
    for name in names {
        roles.push(read_role::role(
            ini,
            name,
            &archipelago,
            &mut ports,
            &mut warnings,
        )?);
    }
    tell_what_blockers_say(&mut roles);
    let ganeti_section = Section::optional(ini, "GANETI");
    let ganeti = ganeti::read(&ganeti_section)?;
    let vtool = ports.read(&xseg_section, "vtool_start", "vtool_end")?;
    for section in [&main, &xseg_section, &peers, &ganeti_section] {
        warnings.extend(section.unknown_keys());
    }
    let xseg = Xseg { segment, vtool };
    Ok(NodeConfig {
        file: ini.file.clone(),
        archipelago,
        xseg,
        ganeti,
        roles,
        warnings,
    })
}

/// Mapperd combines hashes that the blockers make, so it must hash as they do; and whoever gives a
/// lease, uses it or checks it must know how long it lasts.
fn tell_what_blockers_say(roles: &mut [Role]) {
    let hash = roles.iter().find_map(|role| role.kind.hash_algorithm());
    let ttl = roles.iter().find_map(|role| role.kind.lock_ttl_s());
    let (Some(hash), Some(ttl)) = (hash, ttl) else {
        return;
    };
    for role in roles {
        match &mut role.kind {
            RoleKind::Mapperd(mapperd) => {
                mapperd.hash_algorithm = hash;
                mapperd.lock_ttl_s = ttl;
            }
            RoleKind::Vlmcd(vlmcd) => vlmcd.lock_ttl_s = ttl,
            _ => {}
        }
    }
}

fn segment(section: &Section<'_>) -> Result<SegmentSpec, ConfigError> {
    let word = section.text("segment_type").unwrap_or("posix");
    let kind = SegmentType::from_word(word).ok_or_else(|| {
        section.error(
            ErrorKind::BadValue,
            "segment_type",
            "Segment type not valid",
        )
    })?;
    let (ports, dynports) = (
        section.int("segment_ports")?,
        section.int("segment_dynports")?,
    );
    let size_mib = section.int("segment_size")?;
    let spec = SegmentSpec {
        kind,
        name: section.text("segment_name").unwrap_or("archipelago").into(),
        ports: section.need("segment_ports", ports)?,
        dynports: section.need("segment_dynports", dynports)?,
        size_mib: section.need("segment_size", size_mib)?,
        align: section.int("segment_alignment")?.unwrap_or(ALIGNMENT),
    };
    spec.check().map_err(|fault| section.fault(fault))?;
    Ok(spec)
}

fn role_names<'a>(peers: &Section<'a>) -> Result<Vec<&'a str>, ConfigError> {
    peers.text("order");
    let Some(text) = peers.text("roles") else {
        let message = "Roles setup must be provided";
        return Err(peers.error(ErrorKind::MissingKey, "roles", message));
    };
    let mut names = Vec::new();
    for name in text.split_whitespace() {
        if !is_plain_name(name) {
            return Err(peers.bad("roles", name, "a name of letters, digits, `.`, `_` and `-`"));
        }
        if names.contains(&name) {
            let message = format!("the role {name} is named twice");
            return Err(peers.error(ErrorKind::Conflict, "roles", message));
        }
        names.push(name);
    }
    Ok(names)
}

fn archipelago(section: &Section<'_>, caller: &Caller) -> Result<Archipelago, ConfigError> {
    let (user, group) = (user(section, caller)?, group(section, caller)?);
    let enabled = section.boolean("blktap_enabled")?;
    let endpoint = section.word("endpoint", &Endpoint::ALL, Endpoint::as_str)?;
    let run_dir = section
        .path("run_dir")
        .unwrap_or_else(paths::default_run_dir);
    let state_dir = section.path("state_dir");
    Ok(Archipelago {
        user,
        group,
        blktap_enabled: section.need("blktap_enabled", enabled)?,
        umask: umask(section)?,
        endpoint: endpoint.unwrap_or_default(),
        state_dir: state_dir.unwrap_or_else(|| paths::default_state_dir(&run_dir)),
        run_dir,
        log_dir: section
            .path("log_dir")
            .unwrap_or_else(|| paths::LOG_DIR.into()),
        sandbox: section.boolean("sandbox")?.unwrap_or(false),
        fence_command: section.text("fence_command").map(str::to_owned),
    })
}

fn umask(section: &Section<'_>) -> Result<u32, ConfigError> {
    let umask = section.literal("umask")?.unwrap_or(UMASK_DEFAULT);
    match umask <= 0o777 {
        true => Ok(umask),
        false => Err(section.error(ErrorKind::OutOfRange, "umask", "a umask is 0 to 0o777")),
    }
}

fn user(section: &Section<'_>, caller: &Caller) -> Result<UserAccount, ConfigError> {
    let Some(name) = section.text("user") else {
        let own = (!caller.is_root()).then(|| caller.user());
        return section.need("user", own);
    };
    let own = Some(caller.user()).filter(|own| own.name == name);
    let user = own.or_else(|| find_user(name)).ok_or_else(|| {
        section.error(
            ErrorKind::NotFound,
            "user",
            format!("User '{name}' does not exist"),
        )
    })?;
    match caller.may_be(&user) {
        true => Ok(user),
        false => {
            let message = format!("only root can run a node as {name}; leave the key out");
            Err(section.error(ErrorKind::NotPermitted, "user", message))
        }
    }
}

fn group(section: &Section<'_>, caller: &Caller) -> Result<GroupAccount, ConfigError> {
    let Some(name) = section.text("group") else {
        let own = (!caller.is_root()).then(|| caller.group());
        return section.need("group", own);
    };
    let own = Some(caller.group()).filter(|own| own.name == name);
    let group = own.or_else(|| find_group(name)).ok_or_else(|| {
        section.error(
            ErrorKind::NotFound,
            "group",
            format!("Group '{name}' does not exist"),
        )
    })?;
    match caller.may_join(&group) {
        true => Ok(group),
        false => {
            let message = format!("the caller is not in the group {name}; leave the key out");
            Err(section.error(ErrorKind::NotPermitted, "group", message))
        }
    }
}

/// The port ranges read so far: each new one is checked against the segment and the others.
pub(crate) struct Ports {
    limit: u32,
    taken: Vec<PortRange>,
}

impl Ports {
    pub(crate) fn read(
        &mut self,
        section: &Section<'_>,
        start_key: &'static str,
        end_key: &'static str,
    ) -> Result<PortRange, ConfigError> {
        let (start, end) = (section.port(start_key)?, section.port(end_key)?);
        for (key, port) in [(start_key, start), (end_key, end)] {
            if port.0 >= self.limit {
                let message = format!("Portno {port} out of range");
                return Err(section.error(ErrorKind::OutOfRange, key, message));
            }
        }
        let Some(range) = PortRange::new(start, end) else {
            let message = format!("the range ({start}, {end}) ends before it begins");
            return Err(section.error(ErrorKind::OutOfRange, end_key, message));
        };
        if let Some(earlier) = self.taken.iter().find(|taken| taken.overlaps(range)) {
            let message = format!("Port range conflict: {range} conflicts with {earlier}");
            return Err(section.error(ErrorKind::Conflict, start_key, message));
        }
        self.taken.push(range);
        Ok(range)
    }
}
