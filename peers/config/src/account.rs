//! Who runs the node.
//!
//! Root must say who the peers become, and may name anybody who exists. Without root nobody can
//! become somebody else, so the keys may be absent, or name the caller (`spec/choices.md`,
//! "USER and GROUP").

use nix::unistd::{Gid, Group, Uid, User, getgroups};

/// A user that peers run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAccount {
    /// The name in the password database, or the number where it has none.
    pub name: String,
    /// The number.
    pub uid: u32,
}

/// A group that owns what peers make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupAccount {
    /// The name in the group database, or the number where it has none.
    pub name: String,
    /// The number.
    pub gid: u32,
}

/// Whoever reads the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// The other groups that the user belongs to.
    pub groups: Vec<u32>,
}

impl Caller {
    /// This process.
    pub fn current() -> Caller {
        let groups = getgroups().unwrap_or_default();
        Caller {
            uid: Uid::effective().as_raw(),
            gid: Gid::effective().as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
        }
    }

    /// Whether the caller may make a peer run as anybody.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The caller as a user.
    pub fn user(&self) -> UserAccount {
        let known = User::from_uid(Uid::from_raw(self.uid)).ok().flatten();
        let name = known.map_or_else(|| self.uid.to_string(), |user| user.name);
        UserAccount {
            name,
            uid: self.uid,
        }
    }

    /// The caller's group.
    pub fn group(&self) -> GroupAccount {
        let known = Group::from_gid(Gid::from_raw(self.gid)).ok().flatten();
        let name = known.map_or_else(|| self.gid.to_string(), |group| group.name);
        GroupAccount {
            name,
            gid: self.gid,
        }
    }

    /// Whether the caller may name this user in a configuration.
    pub(crate) fn may_be(&self, user: &UserAccount) -> bool {
        self.is_root() || user.uid == self.uid
    }

    /// Whether the caller may name this group in a configuration.
    pub(crate) fn may_join(&self, group: &GroupAccount) -> bool {
        self.is_root() || group.gid == self.gid || self.groups.contains(&group.gid)
    }
}

/// The user of that name, if there is one.
pub(crate) fn find_user(name: &str) -> Option<UserAccount> {
    let user = User::from_name(name).ok().flatten()?;
    Some(UserAccount {
        name: user.name,
        uid: user.uid.as_raw(),
    })
}

/// The group of that name, if there is one.
pub(crate) fn find_group(name: &str) -> Option<GroupAccount> {
    let group = Group::from_name(name).ok().flatten()?;
    Some(GroupAccount {
        name: group.name,
        gid: group.gid.as_raw(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_may_be_somebody_else() {
        let user = Caller {
            uid: 1000,
            gid: 1000,
            groups: vec![1000, 44],
        };
        let root = Caller {
            uid: 0,
            gid: 0,
            groups: vec![],
        };
        let somebody = UserAccount {
            name: "daemon".into(),
            uid: 1,
        };
        let video = GroupAccount {
            name: "video".into(),
            gid: 44,
        };
        let daemon = GroupAccount {
            name: "daemon".into(),
            gid: 1,
        };
        assert!(!user.may_be(&somebody) && root.may_be(&somebody));
        assert!(user.may_join(&video) && !user.may_join(&daemon) && root.may_join(&daemon));
    }

    #[test]
    fn a_number_without_a_name_is_its_own_name() {
        let nobody = Caller {
            uid: 4_000_000_000,
            gid: 4_000_000_000,
            groups: vec![],
        };
        assert_eq!(nobody.user().name, "4000000000");
        assert_eq!(nobody.group().name, "4000000000");
        assert_eq!(find_user("no such user"), None);
        assert_eq!(find_user("root").unwrap().uid, 0);
    }
}
