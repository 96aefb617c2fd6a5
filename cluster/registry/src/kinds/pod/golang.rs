//! A template of pods as upstream's internal types show it.

use serde_json::Value;

use crate::errors::quote;
use crate::golang::{self, Field, Go};
use crate::value::Look as _;

const NULL: Go = Go::Plain("null");
const TEXT: Go = Go::Plain("\"\"");
const ZERO: Go = Go::Plain("0");
const FALSE: Go = Go::Plain("false");

const PORT: &[Field] = &[
    ("Name", "name", TEXT),
    ("HostPort", "hostPort", ZERO),
    ("ContainerPort", "containerPort", ZERO),
    ("Protocol", "protocol", TEXT),
    ("HostIP", "hostIP", TEXT),
];

const FIELD_REF: &[Field] = &[("APIVersion", "apiVersion", TEXT), ("FieldPath", "fieldPath", TEXT)];
const RESOURCE_REF: &[Field] = &[
    ("ContainerName", "containerName", TEXT),
    ("Resource", "resource", TEXT),
    ("Divisor", "divisor", Go::Plain("\"0\"")),
];
const KEY_REF: &[Field] = &[("Name", "name", TEXT), ("Key", "key", TEXT), ("Optional", "optional", NULL)];
const FILE_REF: &[Field] =
    &[("VolumeName", "volumeName", TEXT), ("Path", "path", TEXT), ("Key", "key", TEXT), ("Optional", "optional", NULL)];

const ENV_SOURCE: &[Field] = &[
    ("FieldRef", "fieldRef", Go::Pointer(FIELD_REF)),
    ("ResourceFieldRef", "resourceFieldRef", Go::Pointer(RESOURCE_REF)),
    ("ConfigMapKeyRef", "configMapKeyRef", Go::Pointer(KEY_REF)),
    ("SecretKeyRef", "secretKeyRef", Go::Pointer(KEY_REF)),
    ("FileKeyRef", "fileKeyRef", Go::Pointer(FILE_REF)),
];
const ENV: &[Field] =
    &[("Name", "name", TEXT), ("Value", "value", TEXT), ("ValueFrom", "valueFrom", Go::Pointer(ENV_SOURCE))];

const ENV_FROM_SOURCE: &[Field] = &[("Name", "name", TEXT), ("Optional", "optional", NULL)];
const ENV_FROM: &[Field] = &[
    ("Prefix", "prefix", TEXT),
    ("ConfigMapRef", "configMapRef", Go::Pointer(ENV_FROM_SOURCE)),
    ("SecretRef", "secretRef", Go::Pointer(ENV_FROM_SOURCE)),
];

const CLAIM: &[Field] = &[("Name", "name", TEXT), ("Request", "request", TEXT)];
const RESOURCES: &[Field] =
    &[("Limits", "limits", NULL), ("Requests", "requests", NULL), ("Claims", "claims", Go::List(CLAIM))];

const MOUNT: &[Field] = &[
    ("Name", "name", TEXT),
    ("ReadOnly", "readOnly", FALSE),
    ("RecursiveReadOnly", "recursiveReadOnly", NULL),
    ("MountPath", "mountPath", TEXT),
    ("SubPath", "subPath", TEXT),
    ("MountPropagation", "mountPropagation", NULL),
    ("SubPathExpr", "subPathExpr", TEXT),
];
const DEVICE: &[Field] = &[("Name", "name", TEXT), ("DevicePath", "devicePath", TEXT)];

const HEADER: &[Field] = &[("Name", "name", TEXT), ("Value", "value", TEXT)];
const EXEC: &[Field] = &[("Command", "command", NULL)];
const HTTP: &[Field] = &[
    ("Path", "path", TEXT),
    ("Port", "port", ZERO),
    ("Host", "host", TEXT),
    ("Scheme", "scheme", TEXT),
    ("HTTPHeaders", "httpHeaders", Go::List(HEADER)),
];
const TCP: &[Field] = &[("Port", "port", ZERO), ("Host", "host", TEXT)];
const GRPC: &[Field] = &[("Port", "port", ZERO), ("Service", "service", NULL)];
const SLEEP: &[Field] = &[("Seconds", "seconds", ZERO)];

const PROBE: &[Field] = &[
    ("Exec", "exec", Go::Pointer(EXEC)),
    ("HTTPGet", "httpGet", Go::Pointer(HTTP)),
    ("TCPSocket", "tcpSocket", Go::Pointer(TCP)),
    ("GRPC", "grpc", Go::Pointer(GRPC)),
    ("InitialDelaySeconds", "initialDelaySeconds", ZERO),
    ("TimeoutSeconds", "timeoutSeconds", ZERO),
    ("PeriodSeconds", "periodSeconds", ZERO),
    ("SuccessThreshold", "successThreshold", ZERO),
    ("FailureThreshold", "failureThreshold", ZERO),
    ("TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", NULL),
];
const HANDLER: &[Field] = &[
    ("Exec", "exec", Go::Pointer(EXEC)),
    ("HTTPGet", "httpGet", Go::Pointer(HTTP)),
    ("TCPSocket", "tcpSocket", Go::Pointer(TCP)),
    ("Sleep", "sleep", Go::Pointer(SLEEP)),
];
const LIFECYCLE: &[Field] = &[
    ("PostStart", "postStart", Go::Pointer(HANDLER)),
    ("PreStop", "preStop", Go::Pointer(HANDLER)),
    ("StopSignal", "stopSignal", NULL),
];

const CONTAINER: &[Field] = &[
    ("Name", "name", TEXT),
    ("Image", "image", TEXT),
    ("Command", "command", NULL),
    ("Args", "args", NULL),
    ("WorkingDir", "workingDir", TEXT),
    ("Ports", "ports", Go::List(PORT)),
    ("EnvFrom", "envFrom", Go::List(ENV_FROM)),
    ("Env", "env", Go::List(ENV)),
    ("Resources", "resources", Go::Struct(RESOURCES)),
    ("ResizePolicy", "resizePolicy", NULL),
    ("RestartPolicy", "restartPolicy", NULL),
    ("RestartPolicyRules", "restartPolicyRules", NULL),
    ("VolumeMounts", "volumeMounts", Go::List(MOUNT)),
    ("VolumeDevices", "volumeDevices", Go::List(DEVICE)),
    ("LivenessProbe", "livenessProbe", Go::Pointer(PROBE)),
    ("ReadinessProbe", "readinessProbe", Go::Pointer(PROBE)),
    ("StartupProbe", "startupProbe", Go::Pointer(PROBE)),
    ("Lifecycle", "lifecycle", Go::Pointer(LIFECYCLE)),
    ("TerminationMessagePath", "terminationMessagePath", TEXT),
    ("TerminationMessagePolicy", "terminationMessagePolicy", TEXT),
    ("ImagePullPolicy", "imagePullPolicy", TEXT),
    ("SecurityContext", "securityContext", NULL),
    ("Stdin", "stdin", FALSE),
    ("StdinOnce", "stdinOnce", FALSE),
    ("TTY", "tty", FALSE),
];

/// Some fields of the specification are the security context's in upstream's internal type: paths are of the specification here.
const SECURITY: &[Field] = &[
    ("HostNetwork", "hostNetwork", FALSE),
    ("HostPID", "hostPID", FALSE),
    ("HostIPC", "hostIPC", FALSE),
    ("ShareProcessNamespace", "shareProcessNamespace", NULL),
    ("HostUsers", "hostUsers", NULL),
    ("SELinuxOptions", "securityContext.seLinuxOptions", NULL),
    ("WindowsOptions", "securityContext.windowsOptions", NULL),
    ("RunAsUser", "securityContext.runAsUser", NULL),
    ("RunAsGroup", "securityContext.runAsGroup", NULL),
    ("RunAsNonRoot", "securityContext.runAsNonRoot", NULL),
    ("SupplementalGroups", "securityContext.supplementalGroups", NULL),
    ("SupplementalGroupsPolicy", "securityContext.supplementalGroupsPolicy", NULL),
    ("FSGroup", "securityContext.fsGroup", NULL),
    ("FSGroupChangePolicy", "securityContext.fsGroupChangePolicy", NULL),
    ("Sysctls", "securityContext.sysctls", Go::List(HEADER)),
    ("SeccompProfile", "securityContext.seccompProfile", NULL),
    ("AppArmorProfile", "securityContext.appArmorProfile", NULL),
    ("SELinuxChangePolicy", "securityContext.seLinuxChangePolicy", NULL),
];

const NAMED: &[Field] = &[("Name", "name", TEXT)];
pub(crate) const TOLERATION: &[Field] = &[
    ("Key", "key", TEXT),
    ("Operator", "operator", TEXT),
    ("Value", "value", TEXT),
    ("Effect", "effect", TEXT),
    ("TolerationSeconds", "tolerationSeconds", NULL),
];
const ALIAS: &[Field] = &[("IP", "ip", TEXT), ("Hostnames", "hostnames", NULL)];
const GATE: &[Field] = &[("ConditionType", "conditionType", TEXT)];

/// Sources keep the names that they have in the API.
const VOLUME: &[Field] = &[
    ("Name", "name", TEXT),
    ("HostPath", "hostPath", NULL),
    ("EmptyDir", "emptyDir", NULL),
    ("GCEPersistentDisk", "gcePersistentDisk", NULL),
    ("AWSElasticBlockStore", "awsElasticBlockStore", NULL),
    ("GitRepo", "gitRepo", NULL),
    ("Secret", "secret", NULL),
    ("NFS", "nfs", NULL),
    ("ISCSI", "iscsi", NULL),
    ("Glusterfs", "glusterfs", NULL),
    ("PersistentVolumeClaim", "persistentVolumeClaim", NULL),
    ("RBD", "rbd", NULL),
    ("Quobyte", "quobyte", NULL),
    ("FlexVolume", "flexVolume", NULL),
    ("Cinder", "cinder", NULL),
    ("CephFS", "cephfs", NULL),
    ("Flocker", "flocker", NULL),
    ("DownwardAPI", "downwardAPI", NULL),
    ("FC", "fc", NULL),
    ("AzureFile", "azureFile", NULL),
    ("ConfigMap", "configMap", NULL),
    ("VsphereVolume", "vsphereVolume", NULL),
    ("AzureDisk", "azureDisk", NULL),
    ("PhotonPersistentDisk", "photonPersistentDisk", NULL),
    ("Projected", "projected", NULL),
    ("PortworxVolume", "portworxVolume", NULL),
    ("ScaleIO", "scaleIO", NULL),
    ("StorageOS", "storageos", NULL),
    ("CSI", "csi", NULL),
    ("Ephemeral", "ephemeral", NULL),
    ("Image", "image", NULL),
];

const BEFORE_SECURITY: &[Field] = &[
    ("Volumes", "volumes", Go::List(VOLUME)),
    ("InitContainers", "initContainers", Go::List(CONTAINER)),
    ("Containers", "containers", Go::List(CONTAINER)),
    ("EphemeralContainers", "ephemeralContainers", NULL),
    ("RestartPolicy", "restartPolicy", TEXT),
    ("TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", NULL),
    ("ActiveDeadlineSeconds", "activeDeadlineSeconds", NULL),
    ("DNSPolicy", "dnsPolicy", TEXT),
    ("NodeSelector", "nodeSelector", NULL),
    ("ServiceAccountName", "serviceAccountName", TEXT),
    ("AutomountServiceAccountToken", "automountServiceAccountToken", NULL),
    ("NodeName", "nodeName", TEXT),
];
const AFTER_SECURITY: &[Field] = &[
    ("ImagePullSecrets", "imagePullSecrets", Go::List(NAMED)),
    ("Hostname", "hostname", TEXT),
    ("Subdomain", "subdomain", TEXT),
    ("SetHostnameAsFQDN", "setHostnameAsFQDN", NULL),
    ("Affinity", "affinity", NULL),
    ("SchedulerName", "schedulerName", TEXT),
    ("Tolerations", "tolerations", Go::List(TOLERATION)),
    ("HostAliases", "hostAliases", Go::List(ALIAS)),
    ("PriorityClassName", "priorityClassName", TEXT),
    ("Priority", "priority", NULL),
    ("PreemptionPolicy", "preemptionPolicy", NULL),
    ("DNSConfig", "dnsConfig", NULL),
    ("ReadinessGates", "readinessGates", Go::List(GATE)),
    ("RuntimeClassName", "runtimeClassName", NULL),
    ("Overhead", "overhead", NULL),
    ("EnableServiceLinks", "enableServiceLinks", NULL),
    ("TopologySpreadConstraints", "topologySpreadConstraints", NULL),
    ("OS", "os", Go::Pointer(NAMED)),
    ("SchedulingGates", "schedulingGates", Go::List(NAMED)),
    ("ResourceClaims", "resourceClaims", NULL),
    ("Resources", "resources", Go::Pointer(RESOURCES)),
    ("HostnameOverride", "hostnameOverride", NULL),
    ("SchedulingGroup", "schedulingGroup", NULL),
];

/// `{"labels":…,"Spec":…}`: the metadata keeps its names, and leaves out what is empty.
pub(crate) fn template(template: &Value) -> String {
    let spec = template.look("spec");
    let security = ("SecurityContext", golang::show(spec, SECURITY));
    let shown = golang::shown(spec, BEFORE_SECURITY).chain([security]).chain(golang::shown(spec, AFTER_SECURITY));
    let spec = format!("\"Spec\":{}", golang::object(shown));
    const META: &[&str] =
        &["name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers"];
    let given = META.iter().filter_map(|name| {
        let value = template.look("metadata").get(name)?;
        Some(format!("{}:{value}", quote(name)))
    });
    format!("{{{}}}", given.chain([spec]).collect::<Vec<_>>().join(","))
}
