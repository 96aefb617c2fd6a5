//! A pod, changed in one place, and all that is wrong with it then: field, reason and message as upstream gives them.

use serde_json::{Value, json};

use super::{default, resize, status, update, validate, validate_create};
use crate::kinds::cases::{put, told};
use crate::kinds::workload;
use crate::value::Fill as _;

/// With one container, one that comes first, and a volume of each kind that containers mount.
fn pod() -> Value {
    json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {
        "serviceAccountName": "default",
        "containers": [{"name": "c", "image": "i"}],
        "initContainers": [{"name": "f", "image": "i"}],
        "volumes": [{"name": "e", "emptyDir": {}}],
    }})
}

fn created(at: &str, value: Value) -> Vec<String> {
    let mut pod = pod();
    put(&mut pod, at, value);
    default::pod(&mut pod);
    told(|errors| {
        validate(&pod, errors);
        validate_create(&pod, errors);
    })
}

#[test]
fn containers() {
    const C: &str = "/spec/containers/0/";
    const F: &str = "/spec/initContainers/0/";
    let rules =
        |count: usize| json!(vec![json!({"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}); count]);
    let unsaid = "Required value: must specify restartPolicy when restart rules are used";
    let table: Vec<(String, Value, Vec<String>)> = vec![
        (format!("{C}restartPolicy"), json!("Never"), vec![]),
        (
            format!("{C}restartPolicy"),
            json!("Sometimes"),
            vec!["spec.containers[0].restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"".into()],
        ),
        (
            format!("{C}restartPolicyRules"),
            rules(21),
            vec![
                format!("spec.containers[0].restartPolicy: {unsaid}"),
                "spec.containers[0].restartPolicyRules: Too many: 21: must have at most 20 items".into(),
            ],
        ),
        // Of one that comes first, rules without a policy are not counted.
        (format!("{F}restartPolicyRules"), rules(21), vec![format!("spec.initContainers[0].restartPolicy: {unsaid}")]),
        (
            "/spec/initContainers/0".into(),
            json!({"name": "f", "image": "i", "restartPolicy": "Always", "restartPolicyRules": [{"action": "Stop"}]}),
            vec![
                "spec.initContainers[0].restartPolicyRules[0].action: Unsupported value: \"Stop\": supported values: \"Restart\", \"RestartAllContainers\"".into(),
                "spec.initContainers[0].restartPolicyRules[0].exitCodes: Required value: must be specified".into(),
            ],
        ),
        (
            "/spec/initContainers".into(),
            json!([{"image": "i"}, {"image": "i"}]),
            vec!["spec.initContainers[0].name: Required value".into(), "spec.initContainers[1].name: Required value".into()],
        ),
        (
            format!("{F}lifecycle"),
            json!({}),
            vec!["spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always".into()],
        ),
        // A feature that is off: the field is as if it had not been given, and so is the hook that has nothing else.
        (format!("{C}lifecycle"), json!({"stopSignal": "SIGNOT"}), vec![]),
        (format!("{F}lifecycle"), json!({"stopSignal": "SIGTERM"}), vec![]),
        (
            format!("{C}lifecycle"),
            json!({"postStart": {}, "preStop": {"sleep": {"seconds": 31}, "exec": {}}}),
            vec![
                "spec.containers[0].lifecycle.postStart: Required value: must specify a handler type".into(),
                "spec.containers[0].lifecycle.preStop.exec.command: Required value".into(),
                "spec.containers[0].lifecycle.preStop.sleep: Forbidden: may not specify more than 1 handler type".into(),
            ],
        ),
        (
            format!("{C}resizePolicy"),
            json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "cpu", "restartPolicy": "x"}, {"resourceName": "disk", "restartPolicy": ""}]),
            vec![
                "spec.containers[0].resizePolicy[1]: Duplicate value: \"cpu\"".into(),
                "spec.containers[0].resizePolicy: Unsupported value: \"x\": supported values: \"NotRequired\", \"RestartContainer\"".into(),
                "spec.containers[0].resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"".into(),
                "spec.containers[0].resizePolicy: Required value".into(),
            ],
        ),
        (
            format!("{F}resizePolicy"),
            json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]),
            vec!["spec.initContainers[0].resizePolicy[0].restartPolicy: Invalid value: \"RestartContainer\": must not be set to 'RestartContainer' for non-sidecar initContainers".into()],
        ),
        (
            format!("{C}livenessProbe"),
            json!({"httpGet": {"port": 0, "httpHeaders": [{"name": "a b"}]}, "successThreshold": 2, "terminationGracePeriodSeconds": 0}),
            vec![
                "spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive".into(),
                "spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')".into(),
                "spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0".into(),
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1".into(),
            ],
        ),
        (
            format!("{C}ports"),
            json!([{"name": "-", "containerPort": 0}, {"name": "a", "containerPort": 1, "hostPort": 5}, {"name": "a", "containerPort": 70000, "hostPort": 5, "protocol": "X"}, {"containerPort": 2, "hostPort": 5}]),
            vec![
                "spec.containers[0].ports[0].name: Invalid value: \"-\": must contain at least one letter (a-z)".into(),
                "spec.containers[0].ports[0].name: Invalid value: \"-\": must not begin or end with a hyphen".into(),
                "spec.containers[0].ports[0].containerPort: Required value".into(),
                "spec.containers[0].ports[2].name: Duplicate value: \"a\"".into(),
                "spec.containers[0].ports[2].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive".into(),
                "spec.containers[0].ports[2].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"".into(),
                "spec.containers[0].ports[3].hostPort: Duplicate value: \"TCP//5\"".into(),
            ],
        ),
    ];
    for (at, value, expected) in table {
        assert_eq!(created(&at, value.clone()), expected, "{at} {value}");
    }
}

#[test]
fn what_looks_inside_comes_later_and_has_less() {
    let mut template = pod();
    put(
        &mut template,
        "/spec/ephemeralContainers",
        json!([{"name": "c", "image": " i", "lifecycle": {}, "resources": {},
        "ports": [{"containerPort": 1}], "targetContainerName": "x", "volumeMounts": [{"name": "e", "mountPath": "/e", "subPath": "a"}]}]),
    );
    default::spec(template.slot("spec"));
    let why = "Forbidden: cannot be set for an Ephemeral Container";
    let own = |path: &str| {
        vec![
            format!("{path}[0].image: Invalid value: \" i\": must not have leading or trailing whitespace"),
            format!("{path}[0].name: Duplicate value: \"c\""),
            format!("{path}[0].targetContainerName: Not found: \"x\""),
            format!("{path}[0].ports: {why}"),
            format!("{path}[0].lifecycle: {why}"),
            format!("{path}[0].volumeMounts[0].subPath: {why}"),
        ]
    };
    let mut of_template = own("t.spec.ephemeralContainers");
    of_template.push("t.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template".into());
    assert_eq!(told(|errors| workload::pod_template(&template, &crate::errors::Path::root("t"), errors)), of_template);
    let mut of_pod = own("spec.ephemeralContainers");
    of_pod.push("spec.ephemeralContainers: Forbidden: cannot be set on create".into());
    assert_eq!(created("/spec/ephemeralContainers", template["spec"]["ephemeralContainers"].clone()), of_pod);
}

#[test]
fn volumes() {
    let claim = |storage: Value| json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}});
    let long = "x".repeat(61);
    let table: Vec<(Value, Vec<&str>)> = vec![
        (
            json!({"emptyDir": {"sizeLimit": "-1"}}),
            vec!["emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"],
        ),
        (
            json!({"emptyDir": {}, "cephfs": {}, "downwardAPI": {}}),
            vec![
                "cephFS: Forbidden: may not specify more than 1 volume type",
                "downwarAPI: Forbidden: may not specify more than 1 volume type",
            ],
        ),
        (
            json!({"hostPath": {"path": "/a/../b", "type": "x"}}),
            vec![
                "hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                "hostPath.type: Unsupported value: \"x\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ],
        ),
        (
            json!({"gitRepo": {"directory": "/a"}}),
            vec![
                "gitRepo.repository: Required value",
                "gitRepo.directory: Invalid value: \"/a\": must be a relative path",
            ],
        ),
        (
            json!({"gcePersistentDisk": {"partition": 256}}),
            vec![
                "persistentDisk.pdName: Required value",
                "persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
            ],
        ),
        (
            json!({"nfs": {}}),
            vec![
                "nfs.server: Required value",
                "nfs.path: Required value",
                "nfs.path: Invalid value: \"\": must be an absolute path",
            ],
        ),
        (
            json!({"iscsi": {"iqn": "x", "lun": 256, "chapAuthSession": true, "initiatorName": ""}}),
            vec![
                "iscsi.targetPortal: Required value",
                "iscsi.iqn: Invalid value: \"x\": must be valid format starting with iqn, eui, or naa",
                "iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                "iscsi.secretRef: Required value",
                "iscsi.initiatorname: Invalid value: \"\": must be valid format starting with iqn, eui, or naa",
            ],
        ),
        (
            json!({"iscsi": {"iqn": "eui.0123456789abcdef", "targetPortal": format!("{long}:1"), "initiatorName": "eui.0123456789abcdef"}}),
            vec![
                "name: Invalid value: \"v\": Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.",
            ],
        ),
        (
            json!({"secret": {"defaultMode": 512, "items": [{"path": "..a", "mode": -1}]}}),
            vec![
                "secret.secretName: Required value",
                "secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                "secret.items[0].key: Required value",
                "secret.items[0].path: Invalid value: \"..a\": must not start with '..'",
                "secret.items[0].mode: Invalid value: -1: must be a number between 0 and 0777 (octal), both inclusive",
            ],
        ),
        (
            json!({"downwardAPI": {"items": [{"path": "a", "fieldRef": {"fieldPath": "status.phase"}, "resourceFieldRef": {"resource": "limits.cpu"}}, {"path": "b", "resourceFieldRef": {"resource": "x"}}, {}]}}),
            vec![
                "downwardAPI.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"",
                "downwardAPI: Invalid value: \"resource\": fieldRef and resourceFieldRef can not be specified simultaneously",
                "downwardAPI.resourceFieldRef.containerName: Required value",
                "downwardAPI.path: Required value",
                "downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
            ],
        ),
        (
            json!({"projected": {"sources": [
                {"secret": {"name": "s", "items": [{"key": "a", "path": "x"}, {"key": "b", "path": "x", "mode": 512}, {"path": "x"}]}, "configMap": {}},
                {"serviceAccountToken": {"expirationSeconds": 599}}, {"podCertificate": {}}, {"clusterTrustBundle": {}},
            ]}}),
            vec![
                "projected.sources[0].secret.items[1].mode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                "projected: Invalid value: \"s\": conflicting duplicate paths",
                "projected.sources[0].secret.items[2].key: Required value",
                "projected: Invalid value: \"s\": conflicting duplicate paths",
                "projected.sources[0].configMap.name: Required value",
                "projected.sources[0]: Forbidden: may not specify more than 1 volume type per source",
                "projected.sources[1].serviceAccountToken.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
                "projected.path: Required value",
            ],
        ),
        (json!({"ephemeral": {}}), vec!["ephemeral.volumeClaimTemplate: Required value"]),
        (
            json!({"ephemeral": {"volumeClaimTemplate": {"metadata": {"uid": "u", "name": "n", "labels": {"a b": ""}}, "spec": claim(json!("0"))["spec"].clone()}}}),
            vec![
                "ephemeral.volumeClaimTemplate.metadata.labels: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                "ephemeral.volumeClaimTemplate.metadata.uID: Forbidden: cannot be set",
                "ephemeral.volumeClaimTemplate.spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            ],
        ),
        (
            json!({"image": {"pullPolicy": "x"}}),
            vec![
                "image.pullPolicy: Unsupported value: \"x\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
                "image.reference: Required value",
            ],
        ),
        (
            json!({"csi": {"driver": "d", "nodePublishSecretRef": {}}}),
            vec!["csi.nodePublishSecretRef.name: Required value"],
        ),
        (
            json!({"csi": {"driver": "d", "nodePublishSecretRef": {"name": "A"}}}),
            vec![
                "csi.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
    ];
    for (mut source, expected) in table {
        source["name"] = json!("v");
        let expected: Vec<String> =
            expected.iter().map(|text| format!("spec.volumes[1].{text}").replace("\\\\", "\\")).collect();
        assert_eq!(created("/spec/volumes/-", source.clone()), expected, "{source}");
    }
    // A template may leave out which image; a pod not.
    let mut template = pod();
    put(&mut template, "/spec/volumes/-", json!({"name": "v", "image": {"pullPolicy": "Never"}}));
    default::spec(template.slot("spec"));
    assert_eq!(told(|errors| workload::pod_template(&template, &crate::errors::Path::root("t"), errors)), [""; 0]);
}

#[test]
fn claims_that_are_made_for_a_pod_are_not_named_by_it() {
    let template = json!({"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}}});
    let volumes =
        json!([{"name": "a", "ephemeral": template}, {"name": "b", "persistentVolumeClaim": {"claimName": "p-a"}}]);
    assert_eq!(
        created("/spec/volumes", volumes),
        [
            "spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: \"p-a\": must not reference a PVC that gets created for an ephemeral volume"
        ]
    );
    let mut pod = pod();
    put(&mut pod, "/metadata/name", json!("x".repeat(252)));
    put(&mut pod, "/spec/volumes", json!([{"name": "a", "ephemeral": template}]));
    default::pod(&mut pod);
    let name = "x".repeat(252);
    assert_eq!(
        told(|errors| validate(&pod, errors)),
        [format!(
            "spec.volumes[0].name: Invalid value: \"a\": PVC name \"{name}-a\": must be no more than 253 characters"
        )]
    );
}

#[test]
fn the_specification_as_a_whole() {
    let table: Vec<(&str, Value, Vec<&str>)> = vec![
        ("/spec/schedulerName", json!("No Such Name"), vec![]),
        ("/spec/schedulingGroup", json!({}), vec![]),
        (
            "/spec/preemptionPolicy",
            json!("Now"),
            vec![
                "spec.preemptionPolicy: Unsupported value: \"Now\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ],
        ),
        ("/spec/preemptionPolicy", json!(""), vec!["spec.preemptionPolicy: Required value"]),
        ("/spec/os", json!({}), vec!["spec.os.name: Required value"]),
        (
            "/spec/os",
            json!({"name": "plan9"}),
            vec!["spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""],
        ),
        (
            "/spec/dnsConfig",
            json!({"nameservers": ["010.0.0.1", "::ffff:1.2.3.4"], "searches": ["a..", "_x.y.", "."], "options": [{}]}),
            vec![
                "spec.dnsConfig.nameservers[0]: Invalid value: \"010.0.0.1\": must not have leading 0s",
                "spec.dnsConfig.nameservers[1]: Invalid value: \"::ffff:1.2.3.4\": must not be an IPv4-mapped IPv6 address",
                "spec.dnsConfig.searches[0]: Invalid value: \"a.\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
                "spec.dnsConfig.options[0]: Required value: must not be empty",
            ],
        ),
        (
            "/spec/hostAliases",
            json!([{"ip": "x", "hostnames": ["a"]}]),
            vec![
                "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        ),
        (
            "/spec/resources",
            json!({"requests": {"cpu": "-1", "ephemeral-storage": "1"}, "limits": {"x": "1"}}),
            vec![
                "spec.resources.limits[x]: Invalid value: \"x\": must be a standard resource type or fully qualified",
                "spec.resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "spec.resources.requests[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ],
        ),
        (
            "/spec/tolerations",
            json!([{"key": "a", "operator": "Lt", "value": "5"}, {"key": "a", "operator": "Near"}]),
            vec![
                "spec.tolerations[0].operator: Unsupported value: \"Lt\": supported values: \"Equal\", \"Exists\", \"Lt\", \"Gt\"",
                "spec.tolerations[1].operator: Unsupported value: \"Near\": supported values: \"Equal\", \"Exists\"",
            ],
        ),
        (
            "/metadata/annotations",
            json!({"scheduler.alpha.kubernetes.io/tolerations": "[{\"key\": \"a\", \"operator\": \"Near\"}]"}),
            vec![
                "a.scheduler.alpha.kubernetes.io/tolerations[0].operator: Unsupported value: \"Near\": supported values: \"Equal\", \"Exists\"",
            ],
        ),
        (
            "/metadata/annotations",
            json!({"scheduler.alpha.kubernetes.io/tolerations": "["}),
            vec!["a: Invalid value: \"scheduler.alpha.kubernetes.io/tolerations\": unexpected end of JSON input"],
        ),
        ("/metadata/annotations", json!({"seccomp.security.alpha.kubernetes.io/pod": "localhost/..a"}), vec![]),
    ];
    for (at, value, expected) in table {
        let expected: Vec<String> = expected
            .iter()
            .map(|text| match text.strip_prefix("a") {
                Some(rest) => format!("metadata.annotations{rest}"),
                None => (*text).to_owned(),
            })
            .collect();
        assert_eq!(created(at, value.clone()), expected, "{at} {value}");
    }
}

#[test]
fn a_pod_that_stands_for_one_of_a_node_has_no_claims() {
    let mut pod = pod();
    put(&mut pod, "/metadata/annotations", json!({"kubernetes.io/config.mirror": "m"}));
    put(&mut pod, "/spec/nodeName", json!("n"));
    put(&mut pod, "/spec/resourceClaims", json!([{"name": "a"}, {"name": "a"}]));
    default::pod(&mut pod);
    let why = "[]: Forbidden: static pods do not support resource claims";
    assert_eq!(told(|errors| validate(&pod, errors)), [why, why]);
}

#[test]
fn changes() {
    let mut old = pod();
    default::pod(&mut old);
    let only = "pod updates may not change fields other than";
    let table: Vec<(&str, Value, Vec<String>)> = vec![
        ("/spec/containers/0/image", json!("j"), vec![]),
        ("/spec/containers/0/image", json!(""), vec!["spec.containers[0].image: Required value".into()]),
        (
            "/spec/containers/-",
            json!({"name": "d"}),
            vec!["spec.containers: Forbidden: pod updates may not add or remove containers".into()],
        ),
        ("/spec/schedulerName", json!("other"), vec![format!("spec: Forbidden: {only}")]),
        (
            "/spec/schedulingGates",
            json!([{"name": "g"}]),
            vec![
                "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'"
                    .into(),
            ],
        ),
    ];
    for (at, value, expected) in table {
        let mut new = old.clone();
        put(&mut new, at, value);
        let told = told(|errors| update::validate(&new, &old, errors));
        let firsts: Vec<String> =
            told.iter().map(|text| text.lines().next().unwrap_or_default().chars().take(120).collect()).collect();
        assert_eq!(firsts.len(), expected.len(), "{at} {firsts:?}");
        for (text, expected) in told.iter().zip(expected) {
            assert!(text.starts_with(&expected), "{text}");
        }
    }
    // Resizing is another matter.
    let mut resized = old.clone();
    put(&mut resized, "/spec/containers/0/resources", json!({"requests": {"x.io/a": "1"}, "limits": {"x.io/a": "1"}}));
    assert_eq!(
        told(|errors| resize::validate(&resized, &old, errors)),
        ["spec: Forbidden: only cpu and memory resources are mutable"]
    );
}

#[test]
fn statuses() {
    let mut old = pod();
    put(&mut old, "/spec/containers/0/resources", json!({"requests": {"x.io/a": "1"}, "limits": {"x.io/a": "1"}}));
    default::pod(&mut old);
    let table: Vec<(&str, Value, Vec<&str>)> = vec![
        // No list of phases is held against it.
        ("phase", json!("Sleeping"), vec![]),
        (
            "extendedResourceClaimStatus",
            json!({}),
            vec![
                "status.extendedResourceClaimStatus.requestMappings: Required value: at least one request mapping is required",
                "status.extendedResourceClaimStatus.resourceClaimName: Required value",
            ],
        ),
        (
            "extendedResourceClaimStatus",
            json!({"resourceClaimName": "c", "requestMappings": [
                {"containerName": "c", "resourceName": "x.io/a", "requestName": "r"}, {"containerName": "c", "resourceName": "x.io/a", "requestName": "r"},
                {"containerName": "x", "resourceName": "x.io/a", "requestName": "r"}, {"containerName": "c", "resourceName": "y", "requestName": "r"},
            ]}),
            vec![
                "status.extendedResourceClaimStatus.requestMappings[1].containerName: Duplicate value: \"c\"",
                "status.extendedResourceClaimStatus.requestMappings[1].resourceName: Duplicate value: \"x.io/a\"",
                "status.extendedResourceClaimStatus.requestMappings[1].requestName: Duplicate value: \"r\"",
                "status.extendedResourceClaimStatus.requestMappings[2].containerName: Invalid value: \"x\": must match the name of an entry in spec.initContainers.name or spec.containers.name",
                "status.extendedResourceClaimStatus.requestMappings[3].resourceName: Invalid value: \"y\": must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests",
            ],
        ),
        (
            "containerStatuses",
            json!([{"name": "c", "allocatedResourcesStatus": [{"name": "x.io/a", "resources": [
                {"resourceID": "1", "health": "Healthy", "message": ""}, {"resourceID": "2", "health": "Healthy", "message": "m".repeat(1025)},
            ]}]}]),
            vec![
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[0].message: Required value: must be non-empty if specified",
                "status.containerStatuses[0].allocatedResourcesStatus[0].resources[1].message: Too long: may not be more than 1024 bytes",
            ],
        ),
    ];
    for (field, value, expected) in table {
        let mut new = old.clone();
        put(&mut new, &format!("/status/{field}"), value);
        assert_eq!(told(|errors| status::validate(&new, &old, errors)), expected, "{field}");
    }
}
