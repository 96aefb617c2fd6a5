//! One container: image, configuration, create, start, postStart hook.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use kedge_api::event::Severity::{Normal, Warning};
use kedge_runtime::images;

use super::{Job, stop};
use crate::pod::{Event, SlotId, Termination};
use crate::translate::container::{self, ImageFacts, Ingredients};
use crate::translate::env::Objects;
use crate::translate::{self, security};
use crate::volumes::sub_path;

/// Why no container could be made, as status and event tell it.
struct Held {
    reason: &'static str,
    message: String,
    pull: bool,
}

impl Held {
    fn config(error: impl std::fmt::Display) -> Self {
        Self { reason: "CreateContainerConfigError", message: error.to_string(), pull: false }
    }
}

pub async fn start(job: &Job, slot: SlotId, attempt: u32) -> Vec<Event> {
    let Some(spec) = job.pod.spec.as_ref() else { return Vec::new() };
    let Some(container) = slot.container(spec) else { return Vec::new() };
    let held = |held: Held| {
        let Held { reason, message, pull } = held;
        vec![Event::Held { slot, attempt, reason: reason.to_owned(), message, pull }]
    };
    let image = match image(job, slot, container).await {
        Ok(image) => image,
        Err(why) => return held(why),
    };
    let made = match configure(job, spec, (slot, container, attempt), &image).await {
        Ok(made) => made,
        Err(why) => {
            job.site.note(&job.pod, Some(slot), Warning, "Failed", format!("Error: {}", why.message)).await;
            return held(why);
        }
    };
    let id = made.id.clone();
    if let Err(error) = run(job, slot, made).await {
        job.site.note(&job.pod, Some(slot), Warning, "Failed", format!("Error: {error}")).await;
        let end = Termination {
            code: 128,
            signal: None,
            reason: "StartError".into(),
            message: error.to_string(),
            started: None,
            finished: job.site.now(),
            id: id.clone(),
        };
        return vec![Event::Started { slot, attempt, image: image.digest, id }, Event::Exited { slot, attempt, end }];
    }
    let mut events = vec![Event::Started { slot, attempt, image: image.digest, id: id.clone() }];
    if let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref())
        && let Err(error) = stop::hook(job, container, &id, hook).await
    {
        job.site
            .note(&job.pod, Some(slot), Warning, "FailedPostStartHook", format!("PostStartHook failed: {error}"))
            .await;
        events.push(Event::HookFailed { slot, attempt });
    }
    events
}

async fn run(job: &Job, slot: SlotId, spec: kedge_runtime::ContainerSpec) -> Result<(), kedge_runtime::Error> {
    let (site, id) = (&job.site, spec.id.clone());
    match site.runtime.create(spec.clone()).await {
        // Left by an attempt of ours that was interrupted.
        Err(kedge_runtime::Error::Exists { .. }) => {
            site.runtime.remove(&id).await?;
            site.runtime.create(spec).await?;
        }
        other => other?,
    }
    site.note(&job.pod, Some(slot), Normal, "Created", "Container created").await;
    if let Err(error) = site.runtime.start(&id).await {
        if let Err(error) = site.runtime.remove(&id).await {
            tracing::warn!(container = %id, %error, "container that did not start is not removed");
        }
        return Err(error);
    }
    site.note(&job.pod, Some(slot), Normal, "Started", "Container started").await;
    Ok(())
}

async fn image(job: &Job, slot: SlotId, container: &Container) -> Result<ImageFacts, Held> {
    let name = container.image.as_deref().unwrap_or_default();
    let policy = container.image_pull_policy.as_deref().unwrap_or("IfNotPresent");
    let (reason, message, why) = match job.site.ground.image(name) {
        Ok(image) => {
            let note = match policy {
                "Always" => " (this system has no registry client yet: the image it was built with is used)",
                _ => "",
            };
            let message = format!("Container image {name:?} already present on machine{note}");
            job.site.note(&job.pod, Some(slot), Normal, "Pulled", message).await;
            return Ok(image);
        }
        Err(images::Error::Reference(error)) => {
            let message = format!("Failed to apply default image tag {name:?}: {error}");
            ("InspectFailed", message.clone(), Held { reason: "InvalidImageName", message, pull: false })
        }
        Err(images::Error::NotFound { .. }) if policy == "Never" => {
            let message = format!("Container image {name:?} is not present with pull policy of Never");
            ("ErrImageNeverPull", message.clone(), Held { reason: "ErrImageNeverPull", message, pull: false })
        }
        Err(error) => {
            let message = format!(
                "failed to pull image {name:?}: {error}, and this system has no registry client yet: \
                 build the image into the system"
            );
            ("Failed", message.clone(), Held { reason: "ErrImagePull", message, pull: true })
        }
    };
    job.site.note(&job.pod, Some(slot), Warning, reason, message).await;
    job.site.note(&job.pod, Some(slot), Warning, "Failed", format!("Error: {}", why.reason)).await;
    Err(why)
}

/// Looks up what the container needs and translates it.
async fn configure(
    job: &Job,
    spec: &PodSpec,
    (slot, container, attempt): (SlotId, &Container, u32),
    image: &ImageFacts,
) -> Result<kedge_runtime::ContainerSpec, Held> {
    let (site, pod) = (&job.site, &*job.pod);
    let asked = security::asked_user(spec, container, &image.user);
    let user = site.ground.user(&image.layers, &asked);
    let user = user.map_err(|e| Held::config(translate::Error::User(e.to_string())))?;
    let (hostname, _) = translate::hostname(pod, &site.domain);
    // Made when the pod was prepared: this only finds them.
    let shared = site.ground.sandbox(container::sandbox(pod, &hostname)).await.map_err(Held::config)?;
    let places = site.places(pod, slot, attempt);
    make_file(&places.termination).map_err(|e| Held::config(format!("make {}: {e}", places.termination.display())))?;
    let snapshot = site.informer.snapshot();
    let (made, sub_paths) = container::of(Ingredients {
        pod,
        slot,
        attempt,
        image,
        objects: Objects { snapshot: &snapshot, namespace: pod.metadata.namespace.as_deref().unwrap_or_default() },
        facts: &site.facts(&job.addresses),
        places: &places,
        shared: &shared,
        user: &user,
        hostname: &hostname,
        log: &site.log(pod, &container.name, attempt),
    })
    .map_err(Held::config)?;
    for sub in &sub_paths {
        sub_path::make(sub).map_err(Held::config)?;
    }
    Ok(made)
}

/// The container's own user must be able to write its last words.
fn make_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::File::create(path)?.set_permissions(std::fs::Permissions::from_mode(0o666))
}
