//! What operations take beside a body.

use serde_json::{Value, json};

use super::Edition;
use crate::wire::set;

/// Names of rows of [`PARAMETERS`].
pub type Names = &'static [&'static str];

pub const WRITE: Names = &["dryRun", "fieldManager", "fieldValidation"];
pub const FORCE: Names = &["force"];
pub const DELETE: Names = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
pub const SELECT: Names = &[
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
pub const WATCH: Names = &["allowWatchBookmarks", "watch"];

/// Of a subresource that is connected to, or read in an odd way.
pub fn of_connection(resource: &str, sub: &str) -> Names {
    match (resource, sub) {
        ("pods", "exec") => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        ("pods", "attach") => &["container", "stderr", "stdin", "stdout", "tty"],
        ("pods", "portforward") => &["ports"],
        ("pods", "log") => &[
            "container",
            "follow",
            "insecureSkipTLSVerifyBackend",
            "limitBytes",
            "previous",
            "sinceSeconds",
            "stream",
            "tailLines",
            "timestamps",
        ],
        (_, "proxy") => &["path"],
        _ => &[],
    }
}

/// A row of this table is one parameter: name, type, what it says. `{…}` is part of the path.
const PARAMETERS: &[(&str, &str, &str)] = &[
    ("allowWatchBookmarks", "boolean", "Whether a watch may also tell how far it is, by events of type BOOKMARK."),
    ("command", "string", "The command to run and its arguments, one each. It is not run in a shell."),
    ("container", "string", "The container, where the pod has more than one."),
    ("continue", "string", "Where the last list of the same query ended, as its metadata say."),
    ("dryRun", "string", "All: everything is done but the change itself."),
    ("fieldManager", "string", "Who owns the fields that are set: at most 128 printable characters."),
    ("fieldSelector", "string", "Only objects with fields of these values."),
    (
        "fieldValidation",
        "string",
        "What unknown and repeated fields lead to. Ignore: nothing; Warn: a warning; Strict: a failure.",
    ),
    ("follow", "boolean", "Whether to go on with what is logged from now on."),
    ("force", "boolean", "Whether to take fields over from other managers. Of apply requests only."),
    (
        "gracePeriodSeconds",
        "integer",
        "How long the object may take to end; 0 is at once. Its kind's own time if not given.",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Whether to delete the object even if it can no longer be read from the store. Finalizers are not waited for.",
    ),
    ("insecureSkipTLSVerifyBackend", "boolean", "Whether to take the log from a node that cannot prove who it is."),
    ("labelSelector", "string", "Only objects with labels of these values."),
    ("limit", "integer", "At most so many objects; where to continue is in the list's metadata."),
    ("limitBytes", "integer", "At most so many bytes of the log."),
    ("orphanDependents", "boolean", "Whether dependents stay. An older way of saying propagationPolicy."),
    ("path", "string", "The path to ask for at the other end."),
    ("ports", "integer", "The ports to forward."),
    ("pretty", "string", "Whether to print the answer for people to read."),
    ("previous", "boolean", "Whether to take the log of the container's last run."),
    (
        "propagationPolicy",
        "string",
        "What becomes of dependents. Orphan: they stay; Background: they go afterwards; Foreground: they go first.",
    ),
    ("resourceVersion", "string", "The version at or from which to read."),
    ("resourceVersionMatch", "string", "Exact or NotOlderThan: how resourceVersion is meant."),
    ("sendInitialEvents", "boolean", "Whether a watch begins with all that there is, and a bookmark behind it."),
    ("sinceSeconds", "integer", "Only what was logged in so many last seconds."),
    ("stderr", "boolean", "Whether to connect to what the container writes as errors."),
    ("stdin", "boolean", "Whether to connect to what the container reads."),
    ("stdout", "boolean", "Whether to connect to what the container writes."),
    ("stream", "string", "Which of the container's streams to read: All, Stdout or Stderr."),
    ("tailLines", "integer", "Only so many of the last lines."),
    ("timeoutSeconds", "integer", "How long the list or watch may take."),
    ("timestamps", "boolean", "Whether each line begins with the time when it was logged."),
    ("tty", "boolean", "Whether the container has a terminal."),
    ("watch", "boolean", "Whether to follow changes in place of listing."),
    ("{path}", "string", "The path to ask for at the other end."),
];

pub fn parameter(name: &str, kind: &str, edition: Edition) -> Value {
    let row = PARAMETERS.binary_search_by_key(&name, |row| row.0).ok().and_then(|at| PARAMETERS.get(at));
    let (place, r#type, text) = match (name, row) {
        ("name", _) => ("path", "string", format!("name of the {kind}")),
        ("namespace", _) => ("path", "string", "The namespace that it is in.".to_owned()),
        (_, Some((name, r#type, text))) => {
            (if name.starts_with('{') { "path" } else { "query" }, *r#type, (*text).to_owned())
        }
        (_, None) => ("query", "string", String::new()),
    };
    let mut parameter = json!({"name": name.trim_matches(['{', '}']), "in": place, "description": text});
    if place == "path" {
        set(&mut parameter, "required", true);
    }
    match edition {
        Edition::V2 => {
            set(&mut parameter, "type", r#type);
            set(&mut parameter, "uniqueItems", true);
        }
        Edition::V3 => set(&mut parameter, "schema", json!({"type": r#type, "uniqueItems": true})),
    }
    parameter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_row() {
        assert!(PARAMETERS.is_sorted_by_key(|row| row.0));
        let connections = ["exec", "attach", "portforward", "log", "proxy"].map(|sub| of_connection("pods", sub));
        for name in [WRITE, FORCE, DELETE, SELECT, WATCH].into_iter().chain(connections).flatten() {
            assert_ne!(parameter(name, "Pod", Edition::V3)["description"], "", "{name}");
        }
        assert_eq!(parameter("name", "Pod", Edition::V2)["required"], true);
        assert_eq!(parameter("{path}", "Pod", Edition::V2)["in"], "path");
    }
}
