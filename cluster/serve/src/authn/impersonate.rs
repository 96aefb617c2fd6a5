//! Acting as someone else (`kubectl --as`): read from headers, granted by authorization.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use kedge_api::{Status, User};

use super::headers::Said;
use super::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, service_account_groups};
use crate::authz::{Attributes, Authorizer};

const PREFIX: &str = "impersonate-";

/// The user that `headers` ask to be, if `user` may: each name, group, uid and extra is a permission of its own.
pub async fn impersonated(user: User, headers: &HeaderMap, authorizer: &Authorizer) -> Result<User, Status> {
    let Said { name, uid, mut groups, extra } = Said::read(headers, PREFIX);
    let (name, uid) = (name.as_str(), uid.as_str());
    if name.is_empty() {
        if uid.is_empty() && groups.is_empty() && extra.is_empty() {
            return Ok(user);
        }
        return Err(Status::bad_request(format!(
            "requested {} without impersonating a user name",
            debug_text(uid, &groups, &extra)
        )));
    }
    let may = async |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let attributes =
            Attributes { namespace, name, subresource, ..Attributes::resource(&user, "impersonate", group, resource) };
        authorizer.check(&attributes).await
    };
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, account)) => may("", "serviceaccounts", "", namespace, account).await?,
        None => may("", "users", "", "", name).await?,
    }
    for group in &groups {
        may("", "groups", "", "", group).await?;
    }
    if !uid.is_empty() {
        may("authentication.k8s.io", "uids", "", "", uid).await?;
    }
    for (key, values) in &extra {
        for value in values {
            may("authentication.k8s.io", "userextras", key, "", value).await?;
        }
    }
    if groups.is_empty()
        && let Some((namespace, _)) = account
    {
        groups = service_account_groups(namespace);
    }
    let implied = if name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !groups.iter().any(|g| g == AUTHENTICATED || g == UNAUTHENTICATED) {
        groups.push(implied.to_owned());
    }
    Ok(User { name: name.into(), uid: uid.into(), groups: groups.into(), extra: Arc::new(extra) })
}

/// Go's `%#v` of the user, which upstream puts into the message.
fn debug_text(uid: &str, groups: &[String], extra: &BTreeMap<String, Vec<String>>) -> String {
    let list = |items: &[String]| items.iter().map(|i| format!("{i:?}")).collect::<Vec<_>>().join(", ");
    let groups = if groups.is_empty() { "(nil)".to_owned() } else { format!("{{{}}}", list(groups)) };
    let extra = match extra.is_empty() {
        true => "(nil)".to_owned(),
        false => {
            let entries: Vec<_> = extra.iter().map(|(k, v)| format!("{k:?}:[]string{{{}}}", list(v))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    };
    format!("&user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:[]string{groups}, Extra:map[string][]string{extra}}}")
}
