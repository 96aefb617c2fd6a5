//! The steps of the way, each with requests as kubectl sends them, and what must be so after each.

use std::time::Duration;

use serde_json::{Value, json};

use crate::NAMESPACE;
use crate::client::{Client, Reply};
use crate::discovery::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Create,
    Get,
    List,
    /// As `kubectl get` shows it.
    Table,
    Watch,
    Update,
    Json,
    Merge,
    Strategic,
    Apply,
    /// Where the kind has the subresource, or its schema a status.
    Status,
    /// Where the kind has the subresource.
    Scale,
    Delete,
    Collection,
}

type Outcome = Result<(), String>;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
/// Tries where someone else, e.g. a controller within the server, may write in between.
const TRIES: usize = 10;

/// Events of others, at most, among those of one object.
const OTHERS: usize = 20;

/// One kind on its way.
pub struct Walk<'a> {
    client: &'a mut Client,
    kind: Kind,
    /// As it is in the file: without what the server adds, and with the status that it is to get.
    object: Value,
    collection: String,
    item: String,
    /// Of the list before anything was made.
    begin: String,
    /// Each change that was answered, as a watch must tell it.
    changes: Vec<(&'static str, String)>,
}

impl<'a> Walk<'a> {
    pub fn new(client: &'a mut Client, kind: Kind, mut object: Value) -> Self {
        let root = if kind.group.is_empty() {
            format!("/api/{}", kind.version)
        } else {
            format!("/apis/{}/{}", kind.group, kind.version)
        };
        let place = if kind.namespaced { format!("{root}/namespaces/{NAMESPACE}") } else { root };
        let collection = format!("{place}/{}", kind.plural);
        let item = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
        if kind.namespaced && object.is_object() {
            object["metadata"]["namespace"] = NAMESPACE.into();
        }
        Self { client, kind, object, collection, item, begin: String::new(), changes: Vec::new() }
    }

    /// Whether it is a step of this kind's way at all.
    pub fn applies(&self, step: Step) -> bool {
        match step {
            Step::Status => self.kind.has("status") || self.object.get("status").is_some(),
            Step::Scale => self.kind.has("scale"),
            Step::Create
            | Step::Get
            | Step::List
            | Step::Table
            | Step::Watch
            | Step::Update
            | Step::Json
            | Step::Merge
            | Step::Strategic
            | Step::Apply
            | Step::Delete
            | Step::Collection => true,
        }
    }

    /// Who says not who he is sees nothing of it.
    pub async fn refuses(&self, nobody: &mut Client) -> Outcome {
        let reply = nobody.ask("GET", &self.collection, &[], b"").await;
        must(reply.status == 403, || short(&reply))
    }

    pub async fn take(&mut self, step: Step) -> Outcome {
        match step {
            Step::Create => self.create().await,
            Step::Get => self.get().await,
            Step::List => self.list().await,
            Step::Table => self.table().await,
            Step::Watch => self.history(None).await,
            Step::Update => self.update().await,
            Step::Json => {
                let add = json!([{"op": "add", "path": "/metadata/annotations/walk.example.com~1json", "value": "y"}]);
                self.patch("application/json-patch+json", &add, "walk.example.com/json").await
            }
            Step::Merge => {
                let merge = json!({"metadata": {"annotations": {"walk.example.com/merge": "y"}}});
                self.patch("application/merge-patch+json", &merge, "walk.example.com/merge").await
            }
            Step::Strategic => {
                let merge = json!({"metadata": {"annotations": {"walk.example.com/strategic": "y"}}});
                self.patch("application/strategic-merge-patch+json", &merge, "walk.example.com/strategic").await
            }
            Step::Apply => self.apply().await,
            Step::Status => self.status().await,
            Step::Scale => self.scale().await,
            Step::Delete => self.delete().await,
            Step::Collection => self.delete_collection().await,
        }
    }

    fn is_kept(&self) -> bool {
        self.kind.verbs.iter().any(|verb| verb == "get")
    }

    async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&Value>) -> Reply {
        let headers: Vec<_> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let body = body.map(Value::to_string).unwrap_or_default();
        self.client.ask(method, path, &headers, body.as_bytes()).await
    }

    async fn json(&mut self, method: &str, path: &str, content: &str, body: &Value) -> Reply {
        self.ask(method, path, &[("accept", "application/json"), ("content-type", content)], Some(body)).await
    }

    async fn read(&mut self, path: &str) -> Reply {
        self.ask("GET", path, &[("accept", "application/json")], None).await
    }

    /// The object of an answer, which a watch tells as a change.
    fn changed(&mut self, reply: &Reply, code: u16, as_event: &'static str) -> Result<Value, String> {
        let object = object(reply, code)?;
        // A request that is carried out and not kept may be answered with how it went.
        let done = object["kind"] == "Status" && !self.is_kept();
        must(done || object["kind"] == *self.kind.name, || format!("answered {object}"))?;
        if let Some(version) = object["metadata"]["resourceVersion"].as_str() {
            let change = (as_event, version.to_owned());
            if self.changes.last().is_none_or(|(_, last)| last != version) {
                self.changes.push(change);
            }
        }
        Ok(object)
    }

    async fn make(&mut self) -> Result<Value, String> {
        let path = format!("{}?fieldManager=kubectl-create&fieldValidation=Strict", self.collection);
        let object = self.object.clone();
        let reply = self.json("POST", &path, "application/json", &object).await;
        self.changed(&reply, 201, "ADDED")
    }

    async fn create(&mut self) -> Outcome {
        let before = self.read(&self.collection.clone()).await;
        if before.status == 200 {
            self.begin = text(&before.json()["metadata"]["resourceVersion"]);
        }
        let made = self.make().await?;
        if !self.is_kept() {
            return Ok(());
        }
        let name = &self.object["metadata"]["name"];
        must(made["metadata"]["name"] == *name, || format!("named {}", made["metadata"]["name"]))?;
        must(text(&made["metadata"]["uid"]).len() == 36, || format!("uid {}", made["metadata"]["uid"]))?;
        let again = self.make().await;
        must(again.is_err_and(|why| why.starts_with("409 ")), || "was made twice".to_owned())
    }

    async fn get(&mut self) -> Outcome {
        // What is only read has objects that nobody made.
        if self.object.is_null() {
            let list = object(&self.read(&self.collection.clone()).await, 200)?;
            let name = text(&list["items"][0]["metadata"]["name"]);
            let one = object(&self.read(&format!("{}/{name}", self.collection)).await, 200)?;
            return must(one["metadata"]["name"] == *name, || one.to_string());
        }
        let got = object(&self.read(&self.item.clone()).await, 200)?;
        let expected = &self.object["metadata"]["name"];
        must(got["metadata"]["name"] == *expected && got["apiVersion"] == self.object["apiVersion"], || {
            got.to_string()
        })?;
        let missing = self.read(&format!("{}-not", self.item)).await;
        must(missing.status == 404, || format!("what is not there was answered {}", missing.status))
    }

    async fn list(&mut self) -> Outcome {
        let path = format!("{}?limit=500", self.collection);
        let list = object(&self.read(&path).await, 200)?;
        must(list["kind"] == format!("{}List", self.kind.name), || list["kind"].to_string())?;
        must(!text(&list["metadata"]["resourceVersion"]).is_empty() || self.object.is_null(), || {
            "no version".to_owned()
        })?;
        let item = |i: &Value| self.object.is_null() || i["metadata"]["name"] == self.object["metadata"]["name"];
        let items = list["items"].as_array().ok_or("no items")?;
        must(items.iter().any(item), || format!("not among {} items", items.len()))
    }

    async fn table(&mut self) -> Outcome {
        let path = format!("{}?limit=500", self.collection);
        let table = object(&self.ask("GET", &path, &[("accept", TABLE)], None).await, 200)?;
        must(table["kind"] == "Table", || table["kind"].to_string())?;
        let columns = table["columnDefinitions"].as_array().ok_or("no columns")?;
        must(columns.first().is_some_and(|c| c["name"].is_string()), || "no first column".to_owned())?;
        let rows = table["rows"].as_array().ok_or("no rows")?;
        must(!rows.is_empty(), || "no rows".to_owned())?;
        let fits = |row: &Value| row["cells"].as_array().is_some_and(|cells| cells.len() == columns.len());
        must(rows.iter().all(fits), || "a row has not a cell for each column".to_owned())
    }

    /// A watch from before the first change tells all that was answered, in its order; others may have written in between.
    async fn history(&mut self, end: Option<&'static str>) -> Outcome {
        let path = format!(
            "{}?watch=true&allowWatchBookmarks=true&resourceVersion={}&fieldSelector=metadata.name={}",
            self.collection,
            self.begin,
            text(&self.object["metadata"]["name"])
        );
        let mut expected: Vec<(&str, Option<&str>)> = self.changes.iter().map(|(of, v)| (*of, Some(&**v))).collect();
        expected.extend(end.map(|end| (end, None)));
        let accept = [("accept".to_owned(), "application/json".to_owned())];
        let mut events = Vec::new();
        for most in expected.len()..expected.len() + OTHERS {
            let watched = self.client.watch(&path, &accept, Duration::from_secs(20), Some(most)).await;
            must(watched.reply.status == 200, || short(&watched.reply))?;
            must(!watched.closed, || "the server ended the watch".to_owned())?;
            events = watched.events;
            if untold(&expected, &events).is_none() {
                return Ok(());
            }
            if events.len() < most {
                break;
            }
        }
        let untold = untold(&expected, &events);
        Err(format!("{untold:?} was not told among {} events", events.len()))
    }

    async fn update(&mut self) -> Outcome {
        let path = format!("{}?fieldManager=kubectl-replace&fieldValidation=Strict", self.item);
        for _ in 0..TRIES {
            let mut new = object(&self.read(&self.item.clone()).await, 200)?;
            new["metadata"]["annotations"]["walk.example.com/update"] = "y".into();
            let reply = self.json("PUT", &path, "application/json", &new).await;
            if reply.status == 409 {
                continue;
            }
            let answered = self.changed(&reply, 200, "MODIFIED")?;
            annotated(&answered, "walk.example.com/update")?;
            // The old version is no longer to be replaced.
            let stale = self.json("PUT", &path, "application/json", &new).await;
            return must(stale.status == 409, || format!("a stale version was answered {}", stale.status));
        }
        Err("others kept writing".to_owned())
    }

    async fn patch(&mut self, content: &str, patch: &Value, annotation: &str) -> Outcome {
        let path = format!("{}?fieldManager=kubectl-patch&fieldValidation=Strict", self.item);
        let reply = self.json("PATCH", &path, content, patch).await;
        annotated(&self.changed(&reply, 200, "MODIFIED")?, annotation)
    }

    /// What is in the file, under another manager: taken over, owned, and taken back.
    async fn apply(&mut self) -> Outcome {
        let mut config = self.object.clone();
        config.as_object_mut().ok_or("no object")?.remove("status");
        config["metadata"]["annotations"] = json!({"walk.example.com/apply": "y"});
        let path = format!("{}?fieldManager=kubectl&fieldValidation=Strict&force=true", self.item);
        let apply = "application/apply-patch+yaml";
        let reply = self.json("PATCH", &path, apply, &config).await;
        let applied = self.changed(&reply, 200, "MODIFIED")?;
        annotated(&applied, "walk.example.com/apply")?;
        let owns = |m: &Value| m["manager"] == "kubectl" && m["operation"] == "Apply";
        let managers = applied["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        must(managers.iter().any(owns), || format!("managed by {managers:?}"))?;
        config["metadata"]["annotations"] = json!({});
        let reply = self.json("PATCH", &path, apply, &config).await;
        let applied = self.changed(&reply, 200, "MODIFIED")?;
        let left = &applied["metadata"]["annotations"]["walk.example.com/apply"];
        must(left.is_null(), || "what is no longer applied stays".to_owned())
    }

    async fn status(&mut self) -> Outcome {
        let wanted = self.object.get("status").ok_or("no status to write in objects.yaml")?.clone();
        let path = format!("{}/status", self.item);
        let before = object(&self.read(&path).await, 200)?;
        let patch = json!({"status": wanted, "spec": {"walk": true}});
        let query = format!("{path}?fieldManager=kubectl-patch");
        let reply = self.json("PATCH", &query, "application/merge-patch+json", &patch).await;
        let after = self.changed(&reply, 200, "MODIFIED")?;
        within(&wanted, &after["status"], "status")?;
        must(after["spec"] == before["spec"], || "the specification changed, too".to_owned())?;
        let reply = self.json("PUT", &path, "application/json", &after).await;
        if reply.status != 409 {
            let again = self.changed(&reply, 200, "MODIFIED")?;
            within(&wanted, &again["status"], "status")?;
        }
        // Through the object itself it cannot be written.
        let reply =
            self.json("PATCH", &self.item.clone(), "application/merge-patch+json", &json!({"status": null})).await;
        let kept = self.changed(&reply, 200, "MODIFIED")?;
        within(&wanted, &kept["status"], "status")
    }

    async fn scale(&mut self) -> Outcome {
        let path = format!("{}/scale", self.item);
        let scale = object(&self.read(&path).await, 200)?;
        must(scale["kind"] == "Scale", || scale.to_string())?;
        let patch = json!({"spec": {"replicas": 3}});
        let reply = self.json("PATCH", &path, "application/merge-patch+json", &patch).await;
        let scaled = object(&reply, 200)?;
        must(scaled["spec"]["replicas"] == 3, || scaled.to_string())?;
        let got = object(&self.read(&self.item.clone()).await, 200)?;
        must(got["spec"]["replicas"] == 3, || got["spec"].to_string())?;
        self.changes.push(("MODIFIED", text(&got["metadata"]["resourceVersion"])));
        Ok(())
    }

    async fn delete(&mut self) -> Outcome {
        let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        let reply = self.json("DELETE", &self.item.clone(), "application/json", &options).await;
        must([200, 202].contains(&reply.status), || short(&reply))?;
        self.leave().await?;
        self.history(Some("DELETED")).await
    }

    /// Does what controllers would: takes finalizers away, and waits until it is gone.
    async fn leave(&mut self) -> Outcome {
        for _ in 0..300 {
            let reply = self.read(&self.item.clone()).await;
            if reply.status == 404 {
                return Ok(());
            }
            let left = object(&reply, 200)?;
            must(left["metadata"]["deletionTimestamp"].is_string(), || format!("is not going: {left}"))?;
            if self.kind.has("finalize") {
                let mut last = left.clone();
                last["spec"]["finalizers"] = json!([]);
                self.json("PUT", &format!("{}/finalize", self.item), "application/json", &last).await;
            } else if left["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty()) {
                let none = json!({"metadata": {"finalizers": null}});
                self.json("PATCH", &self.item.clone(), "application/merge-patch+json", &none).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err("does not go".to_owned())
    }

    async fn delete_collection(&mut self) -> Outcome {
        self.changes.clear();
        self.object["metadata"]["labels"]["walk.example.com/all"] = "go".into();
        self.make().await?;
        let chosen = format!("{}?labelSelector=walk.example.com/all%3Dgo", self.collection);
        let reply = self.ask("DELETE", &chosen, &[("accept", "application/json")], None).await;
        if reply.status != 200 {
            let why = short(&reply);
            self.ask("DELETE", &self.item.clone(), &[], None).await;
            self.leave().await?;
            return Err(why);
        }
        self.leave().await?;
        let left = object(&self.read(&chosen).await, 200)?;
        must(left["items"] == json!([]), || format!("left are {}", left["items"]))
    }
}

/// The first that is not among the events, each after the one before.
fn untold<'e>(expected: &[(&'e str, Option<&'e str>)], events: &[Value]) -> Option<(&'e str, Option<&'e str>)> {
    let mut left = expected.iter();
    let mut next = left.next();
    for event in events {
        let version = &event["object"]["metadata"]["resourceVersion"];
        if next.is_some_and(|(of, at)| event["type"] == *of && at.is_none_or(|at| version == at)) {
            next = left.next();
        }
    }
    next.copied()
}

fn must(so: bool, else_say: impl FnOnce() -> String) -> Outcome {
    if so { Ok(()) } else { Err(else_say()) }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn short(reply: &Reply) -> String {
    let body = String::from_utf8_lossy(&reply.body);
    format!("{} {}", reply.status, body.chars().take(400).collect::<String>())
}

fn object(reply: &Reply, code: u16) -> Result<Value, String> {
    must(reply.status == code, || short(reply))?;
    let kind = reply.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    must(kind.starts_with("application/json"), || format!("is {kind:?}"))?;
    Ok(reply.json())
}

fn annotated(object: &Value, annotation: &str) -> Outcome {
    let found = &object["metadata"]["annotations"][annotation];
    must(found == "y", || format!("{annotation} is {found}"))
}

/// Whether all that was written is there; more may be.
fn within(wanted: &Value, got: &Value, path: &str) -> Outcome {
    match (wanted, got) {
        (Value::Object(fields), Value::Object(_)) => {
            fields.iter().try_for_each(|(name, value)| within(value, &got[name], &format!("{path}.{name}")))
        }
        (Value::Array(items), Value::Array(all)) if items.len() == all.len() => {
            items.iter().zip(all).try_for_each(|(item, got)| within(item, got, path))
        }
        _ => must(wanted == got, || format!("{path} is {got}, not {wanted}")),
    }
}
