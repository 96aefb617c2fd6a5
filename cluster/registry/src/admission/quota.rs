//! The quotas of a namespace: what a new or grown object takes is written down before the object is stored, by compare-and-swap, so
//! that writers side by side cannot together take more than there is. They queue for it, so that each has its turn however many there
//! are. What a failed write took, the quota controller gives back.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use kedge_api::placement::Amounts;
use kedge_api::resource::known;
use kedge_api::{GroupResource, Key, Object, Snapshot, Status, quota};
use kedge_store::{Error as StoreError, Expect, Write};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use super::{Attributes, Operation};
use crate::Registry;
use crate::value::Fill as _;
use crate::verbs::{store_failed, write};

const QUOTAS: GroupResource = known::RESOURCE_QUOTAS;
/// Tries to write down what is taken, while the quota itself is written.
const ATTEMPTS: usize = 10;

/// Where writers wait for each other: a namespace is always in the same queue, which others may share.
#[derive(Default)]
pub(crate) struct Queues([Mutex<()>; 16]);

impl Queues {
    async fn turn(&self, namespace: &str) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        namespace.hash(&mut hasher);
        let nth = usize::try_from(hasher.finish() % 16).unwrap_or_default();
        Some(self.0.get(nth)?.lock().await)
    }
}

/// Charges every quota of the namespace that the object counts against, or refuses.
pub(super) async fn charge(registry: &Registry, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    if !applies(attributes) {
        return Ok(());
    }
    if registry.cache.snapshot().list(&QUOTAS, attributes.namespace).next().is_none() {
        return Ok(());
    }
    let taken = taken(attributes, object, (registry.options.now)());
    let _turn = registry.queues.turn(attributes.namespace).await;
    for _ in 0..ATTEMPTS {
        // Looked at together first, so that none is charged where another refuses.
        let bills = bills(&registry.cache.snapshot(), attributes, object, &taken)?;
        if attributes.dry_run || pay(registry, &bills).await? {
            return Ok(());
        }
    }
    Err(Status::conflict(&QUOTAS, "", "the quotas of the namespace change too often"))
}

fn applies(attributes: &Attributes<'_>) -> bool {
    let (resource, id) = (attributes.resource, &attributes.resource.id);
    // Events come and go by themselves.
    let counted = *id != known::EVENTS && id.group.as_str() != "events.k8s.io";
    let takes = match attributes.operation {
        Operation::Create => attributes.subresource.is_empty(),
        Operation::Update => quota::changes(id, attributes.subresource),
        Operation::Delete | Operation::Connect => false,
    };
    resource.namespaced && counted && takes
}

/// What the write takes beyond what is taken already.
fn taken(attributes: &Attributes<'_>, object: &Value, now: jiff::Timestamp) -> Amounts {
    let id = &attributes.resource.id;
    let mut taken = quota::usage(id, object, now);
    let before = attributes.old.map(|old| quota::usage(id, old, now)).unwrap_or_default();
    for (name, amount) in before {
        let entry = taken.entry(name).or_default();
        *entry = *entry - amount;
    }
    taken.retain(|_, amount| !amount.is_zero());
    taken
}

/// A quota with what it will have lent, and the version that this was made from.
struct Bill {
    object: Arc<Object>,
    charged: Value,
}

fn bills(
    snapshot: &Snapshot,
    attributes: &Attributes<'_>,
    object: &Value,
    taken: &Amounts,
) -> Result<Vec<Bill>, Status> {
    let id = &attributes.resource.id;
    let mut bills = Vec::new();
    let mut quotas = Vec::new();
    for found in snapshot.list(&QUOTAS, attributes.namespace) {
        let quota: Value = found.decode()?;
        let (hard, used) = (quota::amounts(&quota, "/status/hard"), quota::amounts(&quota, "/status/used"));
        let limited: Vec<&str> = hard.keys().map(String::as_str).filter(|name| quota::is_about(id, name)).collect();
        if limited.is_empty() || !quota::in_scope(&quota, id, object) {
            continue;
        }
        let name = &found.key.name;
        if let Some(why) = quota::unstated(id, object, &limited) {
            return Err(attributes.forbidden(object, &format!("failed quota: {name}: {why}")));
        }
        if limited.iter().any(|name| !used.contains_key(*name)) {
            let why = format!("status unknown for quota: {name}, resources: {}", limited.join(","));
            return Err(attributes.forbidden(object, &why));
        }
        quotas.push((found, quota, hard, used));
    }
    for (found, mut quota, hard, mut used) in quotas {
        let (asked, name) = (taken.iter().filter(|(name, _)| hard.contains_key(*name)), &found.key.name);
        let mut exceeded = [const { Vec::new() }; 3];
        let mut changed = false;
        for (resource, amount) in asked {
            let (had, limit) = (used.get(resource).copied().unwrap_or_default(), hard.get(resource).copied());
            let now = had + *amount;
            if !amount.is_negative() && limit.is_some_and(|limit| now > limit) {
                let shown = [*amount, had, limit.unwrap_or_default()];
                exceeded.iter_mut().zip(shown).for_each(|(list, amount)| list.push(format!("{resource}={amount}")));
            }
            used.insert(resource.clone(), now);
            changed = true;
        }
        let [requested, had, limited] = exceeded.map(|list| list.join(","));
        if !requested.is_empty() {
            let why = format!("exceeded quota: {name}, requested: {requested}, used: {had}, limited: {limited}");
            return Err(attributes.forbidden(object, &why));
        }
        if changed {
            let used: serde_json::Map<_, _> =
                used.iter().map(|(n, amount)| (n.clone(), amount.to_string().into())).collect();
            quota.set("status.used", used);
            bills.push(Bill { object: Arc::clone(found), charged: quota });
        }
    }
    Ok(bills)
}

/// Whether all were paid. One that changed in between ends it; what was paid until then is paid twice for a while, never too little.
async fn pay(registry: &Registry, bills: &[Bill]) -> Result<bool, Status> {
    let Some(row) = registry.table().get(&QUOTAS).cloned() else { return Ok(true) };
    for Bill { object, charged } in bills {
        let Key { namespace, name, .. } = &object.key;
        let draft = write::draft(Key::new(QUOTAS, namespace, name), charged, &row).await?;
        match write::commit(registry, Expect::Revision(object.revision), Write::Put(draft)).await {
            Ok(_) => {}
            Err(StoreError::Conflict { .. }) => return Ok(false),
            Err(error) => return Err(store_failed(&error)),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use kedge_api::Resource;
    use serde_json::json;

    use super::*;

    fn judged(quotas: &[Value], id: &GroupResource, object: &Value, old: Option<&Value>) -> Result<Vec<Value>, String> {
        let mut snapshot = Snapshot::default();
        for (at, quota) in quotas.iter().enumerate() {
            let name = format!("q{at}");
            let json =
                json!({"metadata": {"namespace": "n", "name": name}, "spec": quota["spec"], "status": quota["status"]});
            let revision = kedge_api::Revision(u64::try_from(at).unwrap() + 1);
            let bytes = serde_json::to_vec(&json).unwrap();
            snapshot
                .insert(Arc::new(kedge_store::decode(Key::new(QUOTAS, "n", &name), revision, bytes.into()).unwrap()));
        }
        let base = crate::kinds::resource("", "", "", "", "", &[]);
        let resource = Resource { id: id.clone(), ..base };
        let operation = if old.is_some() { Operation::Update } else { Operation::Create };
        let attributes = Attributes {
            operation,
            resource: &resource,
            subresource: "",
            namespace: "n",
            name: "",
            old,
            kind: None,
            dry_run: false,
        };
        let taken = taken(&attributes, object, jiff::Timestamp::UNIX_EPOCH);
        let bills = bills(&snapshot, &attributes, object, &taken).map_err(|status| status.message)?;
        Ok(bills.into_iter().map(|bill| bill.charged["status"]["used"].clone()).collect())
    }

    fn quota(hard: Value, used: Value) -> Value {
        json!({"spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
    }

    #[test]
    fn what_fits_is_charged_to_every_quota() {
        let quotas = [
            quota(
                json!({"services": "2", "services.nodeports": "1"}),
                json!({"services": "1", "services.nodeports": "0"}),
            ),
            quota(json!({"count/services": "9"}), json!({"count/services": "3"})),
            quota(json!({"pods": "1"}), json!({"pods": "1"})),
        ];
        let service = |ports: Value| json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}});
        assert_eq!(
            judged(&quotas, &known::SERVICES, &service(json!([{}])), None),
            Ok(vec![json!({"services": "2", "services.nodeports": "1"}), json!({"count/services": "4"})])
        );
        assert_eq!(
            judged(&quotas, &known::SERVICES, &service(json!([{}, {}])), None),
            Err("services \"s\" is forbidden: exceeded quota: q0, requested: services.nodeports=2, used: services.nodeports=0, \
                 limited: services.nodeports=1"
                .to_owned())
        );
        let (one, two) = (service(json!([{}])), service(json!([{}, {}])));
        assert_eq!(judged(&quotas, &known::SERVICES, &one, Some(&one)), Ok(vec![]), "nothing more is taken");
        let full = [quota(json!({"services.nodeports": "1"}), json!({"services.nodeports": "2"}))];
        assert_eq!(
            judged(&full, &known::SERVICES, &one, Some(&two)),
            Ok(vec![json!({"services.nodeports": "1"})]),
            "what takes less may always"
        );
    }

    #[test]
    fn pods_must_say_what_is_limited_and_quotas_what_is_used() {
        let pod = |resources: Value| json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}});
        let limited = [quota(json!({"requests.cpu": "1"}), json!({"requests.cpu": "800m"}))];
        assert_eq!(
            judged(&limited, &known::PODS, &pod(json!({})), None),
            Err("pods \"p\" is forbidden: failed quota: q0: must specify requests.cpu for: c".to_owned())
        );
        assert_eq!(
            judged(&limited, &known::PODS, &pod(json!({"requests": {"cpu": "300m"}})), None),
            Err("pods \"p\" is forbidden: exceeded quota: q0, requested: requests.cpu=300m, used: requests.cpu=800m, limited: \
                 requests.cpu=1"
                .to_owned())
        );
        let fresh = [quota(json!({"pods": "1"}), json!({}))];
        assert_eq!(
            judged(&fresh, &known::PODS, &pod(json!({})), None),
            Err("pods \"p\" is forbidden: status unknown for quota: q0, resources: pods".to_owned())
        );
    }

    #[test]
    fn only_quotas_in_scope_count() {
        let mut best = quota(json!({"pods": "1"}), json!({"pods": "1"}));
        best["spec"]["scopes"] = json!(["BestEffort"]);
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}});
        assert_eq!(judged(&[best], &known::PODS, &pod, None), Ok(vec![]));
    }
}
