//! What stands in `roles.txt`.

use std::borrow::Cow;

const TABLE: &str = include_str!("../roles.txt");
const DEFAULTS: &str = "rbac-defaults";
/// Who brought what upstream does not have.
const OWN: &str = "kedge-defaults";
/// Verbs that have a name together.
const VERBS: &[(&str, &str)] = &[
    ("READ", "get list watch"),
    ("WRITE", "create delete deletecollection patch update"),
    ("READ_WRITE", "create delete deletecollection get list patch update watch"),
];
const EVENTS: Grant =
    Grant { verbs: "create patch update", groups: "core events.k8s.io", resources: "events", names: "", urls: "" };

/// A rule in words: each list is one text, its items apart by a space.
#[derive(Clone, Copy)]
pub(super) struct Grant {
    pub(super) verbs: &'static str,
    pub(super) groups: &'static str,
    pub(super) resources: &'static str,
    pub(super) names: &'static str,
    pub(super) urls: &'static str,
}

/// A ClusterRole, or a Role of a namespace.
pub(super) struct Role {
    pub(super) namespace: &'static str,
    pub(super) name: Cow<'static, str>,
    pub(super) grants: Vec<Grant>,
    /// Goes into the roles that gather by this label.
    pub(super) adds_to: &'static str,
    /// Gathers the roles with this label instead of having rules of its own.
    pub(super) gathers: &'static str,
    /// Value of the label that says who brought it.
    pub(super) origin: &'static str,
}

pub(super) enum Who {
    User(&'static str),
    Group(&'static str),
    /// Of `kube-system`.
    Account(&'static str),
}

/// A ClusterRoleBinding, or a RoleBinding of a namespace, to a role of the same scope.
pub(super) struct Binding {
    pub(super) namespace: &'static str,
    pub(super) name: Cow<'static, str>,
    pub(super) role: Cow<'static, str>,
    pub(super) subjects: Vec<Who>,
    pub(super) origin: &'static str,
}

/// All roles and bindings.
pub(super) fn read() -> (Vec<Role>, Vec<Binding>) {
    parse(TABLE)
}

pub(super) fn parse(text: &'static str) -> (Vec<Role>, Vec<Binding>) {
    let (mut roles, mut also, mut bindings) = (Vec::<Role>::new(), Vec::<Role>::new(), Vec::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut head = line.split(' ');
        match (head.next().unwrap_or_default(), head.next().unwrap_or_default()) {
            ("", "also") => also.last_mut().into_iter().for_each(|own| own.grants.extend(grant(line))),
            ("", _) => roles.last_mut().into_iter().for_each(|role| role.grants.extend(grant(line))),
            ("role", name) => roles.push(role(name.into(), head)),
            ("controller", account) => {
                let named = |who: &str| role(format!("{who}:controller:{account}").into(), std::iter::empty());
                for (role, origin, list) in [(named("system"), DEFAULTS, &mut roles), (named("kedge"), OWN, &mut also)]
                {
                    let subjects = vec![Who::Account(account)];
                    bindings.push(Binding { subjects, origin, ..binding(role.name.clone(), std::iter::empty()) });
                    list.push(Role { origin, ..role });
                }
            }
            (_, name) => bindings.push(binding(name.into(), head)),
        }
    }
    for own in &mut also {
        let name = own.name.replacen("kedge", "system", 1);
        let upstreams = roles.iter().filter(|role| role.name == name).flat_map(|role| &role.grants);
        own.grants.extend(upstreams.filter_map(Grant::patching));
    }
    roles.append(&mut also);
    // A controller need not have both.
    let bare = |role: &Role| role.grants.is_empty() && role.gathers.is_empty();
    let dropped: Vec<_> = roles.iter().filter(|role| bare(role)).map(|role| role.name.clone()).collect();
    roles.retain(|role| !bare(role));
    bindings.retain(|binding| !dropped.contains(&binding.role));
    (roles, bindings)
}

impl Grant {
    /// Who may replace something may patch it: no more can come of it.
    fn patching(&self) -> Option<Self> {
        let may = |verb| self.verbs.split(' ').any(|word| word == verb);
        (may("update") && !may("patch")).then_some(Self { verbs: "patch", ..*self })
    }
}

fn role(name: Cow<'static, str>, words: impl Iterator<Item = &'static str>) -> Role {
    let mut role = Role { namespace: "", name, grants: Vec::new(), adds_to: "", gathers: "", origin: DEFAULTS };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let slot = match key {
            "in" => &mut role.namespace,
            "adds-to" => &mut role.adds_to,
            _ => &mut role.gathers,
        };
        *slot = value;
    }
    role
}

fn binding(name: Cow<'static, str>, words: impl Iterator<Item = &'static str>) -> Binding {
    let mut binding = Binding { namespace: "", role: name.clone(), name, subjects: Vec::new(), origin: DEFAULTS };
    for word in words {
        if let Some((key, value)) = word.split_once('=') {
            match key {
                "in" => binding.namespace = value,
                _ => binding.role = value.into(),
            }
        } else if let Some((kind, name)) = word.split_once(':') {
            binding.subjects.push(match kind {
                "User" => Who::User(name),
                "Group" => Who::Group(name),
                _ => Who::Account(name),
            });
        }
    }
    binding
}

fn grant(line: &'static str) -> Option<Grant> {
    let line = line.trim_start();
    let mut columns = line.strip_prefix("also ").unwrap_or(line).split(" | ");
    let verbs = columns.next().filter(|verbs| !verbs.is_empty())?;
    if verbs == "EVENTS" {
        return Some(EVENTS);
    }
    let verbs = VERBS.iter().find(|(name, _)| *name == verbs).map_or(verbs, |(_, verbs)| verbs);
    let first = columns.next().unwrap_or_default();
    Some(match columns.next() {
        None => Grant { verbs, groups: "", resources: "", names: "", urls: first },
        Some(resources) => {
            Grant { verbs, groups: first, resources, names: columns.next().unwrap_or_default(), urls: "" }
        }
    })
}

/// The words of a text, each as `shown`, in the order that upstream keeps them in.
pub(super) fn words(text: &str, shown: fn(&str) -> String) -> Vec<String> {
    let mut words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).map(shown).collect();
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_understood() {
        for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split(' ');
            let head = words.next().unwrap();
            let options: &[&str] = match head {
                "" => {
                    let columns = line.split(" | ").count();
                    assert!((2..=4).contains(&columns) || line == " EVENTS", "{line}");
                    continue;
                }
                "role" => &["in=", "adds-to=", "gathers="],
                "controller" => &[],
                "binding" => &["in=", "role=", "User:", "Group:", "Account:"],
                other => panic!("{other}"),
            };
            assert!(!words.next().unwrap_or_default().is_empty(), "{line}");
            assert!(words.all(|word| options.iter().any(|option| word.starts_with(option))), "{line}");
        }
    }

    #[test]
    fn a_controller_is_two_roles_and_who_has_them() {
        let (roles, bindings) = parse(
            "controller c\n READ | core apps | pods | p\n get | /x\n also create | core | pods\n get update | core | x\n\
             controller d\n patch update | core | x\ncontroller e\n also get | core | x\nbinding b role=r User:u",
        );
        let names: Vec<&str> = roles.iter().map(|role| &*role.name).collect();
        assert_eq!(names, ["system:controller:c", "system:controller:d", "kedge:controller:c", "kedge:controller:e"]);
        let own: Vec<_> = roles[2].grants.iter().map(|grant| (grant.verbs, grant.resources)).collect();
        assert_eq!(own, [("create", "pods"), ("patch", "x")]);
        let bound: Vec<&str> = bindings.iter().map(|binding| &*binding.role).collect();
        assert_eq!(
            bound,
            ["system:controller:c", "kedge:controller:c", "system:controller:d", "kedge:controller:e", "r"]
        );
        let [first, second, _] = roles[0].grants.as_slice() else { panic!() };
        assert_eq!(
            (first.verbs, first.groups, first.resources, first.names),
            ("get list watch", "core apps", "pods", "p")
        );
        assert_eq!((second.urls, second.groups), ("/x", ""));
    }
}
