//! What stands in `roles.txt`.

use std::borrow::Cow;

const TABLE: &str = include_str!("../roles.txt");
const DEFAULTS: &str = "rbac-defaults";
/// Verbs that have a name together.
const VERBS: &[(&str, &str)] = &[
    ("READ", "get list watch"),
    ("WRITE", "create delete deletecollection patch update"),
    ("READ_WRITE", "create delete deletecollection get list patch update watch"),
];
const EVENTS: Grant =
    Grant { verbs: "create patch update", groups: "core events.k8s.io", resources: "events", names: "", urls: "" };

/// A rule in words: each list is one text, its items apart by a space.
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
    let (mut roles, mut bindings) = (Vec::<Role>::new(), Vec::new());
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut head = line.split(' ');
        match (head.next().unwrap_or_default(), head.next().unwrap_or_default()) {
            ("", _) => roles.last_mut().into_iter().for_each(|role| role.grants.extend(grant(line))),
            ("role", name) => roles.push(role(name.into(), head)),
            ("controller", account) => {
                let name: Cow<'_, str> = format!("system:controller:{account}").into();
                let subjects = vec![Who::Account(account)];
                bindings.push(Binding { subjects, ..binding(name.clone(), std::iter::empty()) });
                roles.push(role(name, head));
            }
            (_, name) => bindings.push(binding(name.into(), head)),
        }
    }
    (roles, bindings)
}

fn role(name: Cow<'static, str>, words: impl Iterator<Item = &'static str>) -> Role {
    let mut role = Role { namespace: "", name, grants: Vec::new(), adds_to: "", gathers: "", origin: DEFAULTS };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        let slot = match key {
            "in" => &mut role.namespace,
            "adds-to" => &mut role.adds_to,
            "gathers" => &mut role.gathers,
            _ => &mut role.origin,
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
                "role" => binding.role = value.into(),
                _ => binding.origin = value,
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
    let mut columns = line.trim().split(" | ");
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
                "role" => &["in=", "adds-to=", "gathers=", "origin="],
                "controller" => &[],
                "binding" => &["in=", "role=", "origin=", "User:", "Group:", "Account:"],
                other => panic!("{other}"),
            };
            assert!(!words.next().unwrap_or_default().is_empty(), "{line}");
            assert!(words.all(|word| options.iter().any(|option| word.starts_with(option))), "{line}");
        }
    }

    #[test]
    fn a_controller_is_a_role_and_who_has_it() {
        let (roles, bindings) = parse("controller c\n READ | core apps | pods | p\n get | /x\nbinding b role=r User:u");
        assert_eq!((&*roles[0].name, roles[0].grants.len()), ("system:controller:c", 2));
        let [first, second] = roles[0].grants.as_slice() else { panic!() };
        assert_eq!(
            (first.verbs, first.groups, first.resources, first.names),
            ("get list watch", "core apps", "pods", "p")
        );
        assert_eq!((second.urls, second.groups), ("/x", ""));
        assert_eq!((&*bindings[0].role, bindings[0].subjects.len()), ("system:controller:c", 1));
        assert_eq!((&*bindings[1].name, &*bindings[1].role), ("b", "r"));
    }
}
