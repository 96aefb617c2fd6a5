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

const CAPABILITIES: &[Field] = &[("Add", "add", NULL), ("Drop", "drop", NULL)];
const PROFILE: &[Field] = &[("Type", "type", TEXT), ("LocalhostProfile", "localhostProfile", NULL)];
const SE_LINUX: &[Field] =
    &[("User", "user", TEXT), ("Role", "role", TEXT), ("Type", "type", TEXT), ("Level", "level", TEXT)];
const WINDOWS: &[Field] = &[
    ("GMSACredentialSpecName", "gmsaCredentialSpecName", NULL),
    ("GMSACredentialSpec", "gmsaCredentialSpec", NULL),
    ("RunAsUserName", "runAsUserName", NULL),
    ("HostProcess", "hostProcess", NULL),
];
const CONTAINER_SECURITY: &[Field] = &[
    ("Capabilities", "capabilities", Go::Pointer(CAPABILITIES)),
    ("Privileged", "privileged", NULL),
    ("SELinuxOptions", "seLinuxOptions", Go::Pointer(SE_LINUX)),
    ("WindowsOptions", "windowsOptions", Go::Pointer(WINDOWS)),
    ("RunAsUser", "runAsUser", NULL),
    ("RunAsGroup", "runAsGroup", NULL),
    ("RunAsNonRoot", "runAsNonRoot", NULL),
    ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem", NULL),
    ("AllowPrivilegeEscalation", "allowPrivilegeEscalation", NULL),
    ("ProcMount", "procMount", NULL),
    ("SeccompProfile", "seccompProfile", Go::Pointer(PROFILE)),
    ("AppArmorProfile", "appArmorProfile", Go::Pointer(PROFILE)),
];
const RESIZE: &[Field] = &[("ResourceName", "resourceName", TEXT), ("RestartPolicy", "restartPolicy", TEXT)];

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
    ("ResizePolicy", "resizePolicy", Go::List(RESIZE)),
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
    ("SecurityContext", "securityContext", Go::Pointer(CONTAINER_SECURITY)),
    ("Stdin", "stdin", FALSE),
    ("StdinOnce", "stdinOnce", FALSE),
    ("TTY", "tty", FALSE),
];

/// The same, and what it looks into.
const EPHEMERAL: &[Field] = &[
    ("Name", "name", TEXT),
    ("Image", "image", TEXT),
    ("Command", "command", NULL),
    ("Args", "args", NULL),
    ("WorkingDir", "workingDir", TEXT),
    ("Ports", "ports", Go::List(PORT)),
    ("EnvFrom", "envFrom", Go::List(ENV_FROM)),
    ("Env", "env", Go::List(ENV)),
    ("Resources", "resources", Go::Struct(RESOURCES)),
    ("ResizePolicy", "resizePolicy", Go::List(RESIZE)),
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
    ("SecurityContext", "securityContext", Go::Pointer(CONTAINER_SECURITY)),
    ("Stdin", "stdin", FALSE),
    ("StdinOnce", "stdinOnce", FALSE),
    ("TTY", "tty", FALSE),
    ("TargetContainerName", "targetContainerName", TEXT),
];

/// Some fields of the specification are the security context's in upstream's internal type: paths are of the specification here.
const SECURITY: &[Field] = &[
    ("HostNetwork", "hostNetwork", FALSE),
    ("HostPID", "hostPID", FALSE),
    ("HostIPC", "hostIPC", FALSE),
    ("ShareProcessNamespace", "shareProcessNamespace", NULL),
    ("HostUsers", "hostUsers", NULL),
    ("SELinuxOptions", "securityContext.seLinuxOptions", Go::Pointer(SE_LINUX)),
    ("WindowsOptions", "securityContext.windowsOptions", Go::Pointer(WINDOWS)),
    ("RunAsUser", "securityContext.runAsUser", NULL),
    ("RunAsGroup", "securityContext.runAsGroup", NULL),
    ("RunAsNonRoot", "securityContext.runAsNonRoot", NULL),
    ("SupplementalGroups", "securityContext.supplementalGroups", NULL),
    ("SupplementalGroupsPolicy", "securityContext.supplementalGroupsPolicy", NULL),
    ("FSGroup", "securityContext.fsGroup", NULL),
    ("FSGroupChangePolicy", "securityContext.fsGroupChangePolicy", NULL),
    ("Sysctls", "securityContext.sysctls", Go::List(HEADER)),
    ("SeccompProfile", "securityContext.seccompProfile", Go::Pointer(PROFILE)),
    ("AppArmorProfile", "securityContext.appArmorProfile", Go::Pointer(PROFILE)),
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

const REQUIREMENT: &[Field] = &[("Key", "key", TEXT), ("Operator", "operator", TEXT), ("Values", "values", NULL)];
const NODE_TERM: &[Field] = &[
    ("MatchExpressions", "matchExpressions", Go::List(REQUIREMENT)),
    ("MatchFields", "matchFields", Go::List(REQUIREMENT)),
];
pub(crate) const NODE_SELECTOR: &[Field] = &[("NodeSelectorTerms", "nodeSelectorTerms", Go::List(NODE_TERM))];
const PREFERRED_NODE: &[Field] = &[("Weight", "weight", ZERO), ("Preference", "preference", Go::Struct(NODE_TERM))];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
const NODE_AFFINITY: &[Field] = &[
    ("RequiredDuringSchedulingIgnoredDuringExecution", REQUIRED, Go::Pointer(NODE_SELECTOR)),
    ("PreferredDuringSchedulingIgnoredDuringExecution", PREFERRED, Go::List(PREFERRED_NODE)),
];
/// Label selectors have their API's names everywhere.
const POD_TERM: &[Field] = &[
    ("LabelSelector", "labelSelector", NULL),
    ("Namespaces", "namespaces", NULL),
    ("TopologyKey", "topologyKey", TEXT),
    ("NamespaceSelector", "namespaceSelector", NULL),
    ("MatchLabelKeys", "matchLabelKeys", NULL),
    ("MismatchLabelKeys", "mismatchLabelKeys", NULL),
];
const PREFERRED_POD: &[Field] =
    &[("Weight", "weight", ZERO), ("PodAffinityTerm", "podAffinityTerm", Go::Struct(POD_TERM))];
const POD_AFFINITY: &[Field] = &[
    ("RequiredDuringSchedulingIgnoredDuringExecution", REQUIRED, Go::List(POD_TERM)),
    ("PreferredDuringSchedulingIgnoredDuringExecution", PREFERRED, Go::List(PREFERRED_POD)),
];
const AFFINITY: &[Field] = &[
    ("NodeAffinity", "nodeAffinity", Go::Pointer(NODE_AFFINITY)),
    ("PodAffinity", "podAffinity", Go::Pointer(POD_AFFINITY)),
    ("PodAntiAffinity", "podAntiAffinity", Go::Pointer(POD_AFFINITY)),
];
const SPREAD: &[Field] = &[
    ("MaxSkew", "maxSkew", ZERO),
    ("TopologyKey", "topologyKey", TEXT),
    ("WhenUnsatisfiable", "whenUnsatisfiable", TEXT),
    ("LabelSelector", "labelSelector", NULL),
    ("MinDomains", "minDomains", NULL),
    ("NodeAffinityPolicy", "nodeAffinityPolicy", NULL),
    ("NodeTaintsPolicy", "nodeTaintsPolicy", NULL),
    ("MatchLabelKeys", "matchLabelKeys", NULL),
];
const DNS_OPTION: &[Field] = &[("Name", "name", TEXT), ("Value", "value", NULL)];
const DNS: &[Field] = &[
    ("Nameservers", "nameservers", NULL),
    ("Searches", "searches", NULL),
    ("Options", "options", Go::List(DNS_OPTION)),
];
const RESOURCE_CLAIM: &[Field] = &[
    ("Name", "name", TEXT),
    ("ResourceClaimName", "resourceClaimName", NULL),
    ("ResourceClaimTemplateName", "resourceClaimTemplateName", NULL),
];

const ITEM: &[Field] = &[("Key", "key", TEXT), ("Path", "path", TEXT), ("Mode", "mode", NULL)];
const FILE: &[Field] = &[
    ("Path", "path", TEXT),
    ("FieldRef", "fieldRef", Go::Pointer(FIELD_REF)),
    ("ResourceFieldRef", "resourceFieldRef", Go::Pointer(RESOURCE_REF)),
    ("Mode", "mode", NULL),
];
pub(crate) const HOST_PATH: &[Field] = &[("Path", "path", TEXT), ("Type", "type", NULL)];
const EMPTY_DIR: &[Field] = &[("Medium", "medium", TEXT), ("SizeLimit", "sizeLimit", NULL)];
const SECRET: &[Field] = &[
    ("SecretName", "secretName", TEXT),
    ("Items", "items", Go::List(ITEM)),
    ("DefaultMode", "defaultMode", NULL),
    ("Optional", "optional", NULL),
];
const CONFIG_MAP: &[Field] = &[
    ("Name", "name", TEXT),
    ("Items", "items", Go::List(ITEM)),
    ("DefaultMode", "defaultMode", NULL),
    ("Optional", "optional", NULL),
];
const CLAIMED: &[Field] = &[("ClaimName", "claimName", TEXT), ("ReadOnly", "readOnly", FALSE)];
const DOWNWARD: &[Field] = &[("Items", "items", Go::List(FILE)), ("DefaultMode", "defaultMode", NULL)];
pub(crate) const NFS: &[Field] = &[("Server", "server", TEXT), ("Path", "path", TEXT), ("ReadOnly", "readOnly", FALSE)];
const PROJECTED_FILES: &[Field] = &[("Items", "items", Go::List(FILE))];
const PROJECTED_OBJECT: &[Field] =
    &[("Name", "name", TEXT), ("Items", "items", Go::List(ITEM)), ("Optional", "optional", NULL)];
const TOKEN: &[Field] =
    &[("Audience", "audience", TEXT), ("ExpirationSeconds", "expirationSeconds", ZERO), ("Path", "path", TEXT)];
const PROJECTION: &[Field] = &[
    ("Secret", "secret", Go::Pointer(PROJECTED_OBJECT)),
    ("DownwardAPI", "downwardAPI", Go::Pointer(PROJECTED_FILES)),
    ("ConfigMap", "configMap", Go::Pointer(PROJECTED_OBJECT)),
    ("ServiceAccountToken", "serviceAccountToken", Go::Pointer(TOKEN)),
    ("ClusterTrustBundle", "clusterTrustBundle", NULL),
    ("PodCertificate", "podCertificate", NULL),
];
const PROJECTED: &[Field] = &[("Sources", "sources", Go::List(PROJECTION)), ("DefaultMode", "defaultMode", NULL)];

/// Rarer sources keep the names that they have in the API.
const VOLUME: &[Field] = &[
    ("Name", "name", TEXT),
    ("HostPath", "hostPath", Go::Pointer(HOST_PATH)),
    ("EmptyDir", "emptyDir", Go::Pointer(EMPTY_DIR)),
    ("GCEPersistentDisk", "gcePersistentDisk", NULL),
    ("AWSElasticBlockStore", "awsElasticBlockStore", NULL),
    ("GitRepo", "gitRepo", NULL),
    ("Secret", "secret", Go::Pointer(SECRET)),
    ("NFS", "nfs", Go::Pointer(NFS)),
    ("ISCSI", "iscsi", NULL),
    ("Glusterfs", "glusterfs", NULL),
    ("PersistentVolumeClaim", "persistentVolumeClaim", Go::Pointer(CLAIMED)),
    ("RBD", "rbd", NULL),
    ("Quobyte", "quobyte", NULL),
    ("FlexVolume", "flexVolume", NULL),
    ("Cinder", "cinder", NULL),
    ("CephFS", "cephfs", NULL),
    ("Flocker", "flocker", NULL),
    ("DownwardAPI", "downwardAPI", Go::Pointer(DOWNWARD)),
    ("FC", "fc", NULL),
    ("AzureFile", "azureFile", NULL),
    ("ConfigMap", "configMap", Go::Pointer(CONFIG_MAP)),
    ("VsphereVolume", "vsphereVolume", NULL),
    ("AzureDisk", "azureDisk", NULL),
    ("PhotonPersistentDisk", "photonPersistentDisk", NULL),
    ("Projected", "projected", Go::Pointer(PROJECTED)),
    ("PortworxVolume", "portworxVolume", NULL),
    ("ScaleIO", "scaleIO", NULL),
    ("StorageOS", "storageos", NULL),
    ("CSI", "csi", NULL),
    ("Ephemeral", "ephemeral", NULL),
    ("Image", "image", NULL),
];

/// A pod's or template's specification.
pub(crate) const SPEC: &[Field] = &[
    ("Volumes", "volumes", Go::List(VOLUME)),
    ("InitContainers", "initContainers", Go::List(CONTAINER)),
    ("Containers", "containers", Go::List(CONTAINER)),
    ("EphemeralContainers", "ephemeralContainers", Go::List(EPHEMERAL)),
    ("RestartPolicy", "restartPolicy", TEXT),
    ("TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", NULL),
    ("ActiveDeadlineSeconds", "activeDeadlineSeconds", NULL),
    ("DNSPolicy", "dnsPolicy", TEXT),
    ("NodeSelector", "nodeSelector", NULL),
    ("ServiceAccountName", "serviceAccountName", TEXT),
    ("AutomountServiceAccountToken", "automountServiceAccountToken", NULL),
    ("NodeName", "nodeName", TEXT),
    ("SecurityContext", "", Go::Pointer(SECURITY)),
    ("ImagePullSecrets", "imagePullSecrets", Go::List(NAMED)),
    ("Hostname", "hostname", TEXT),
    ("Subdomain", "subdomain", TEXT),
    ("SetHostnameAsFQDN", "setHostnameAsFQDN", NULL),
    ("Affinity", "affinity", Go::Pointer(AFFINITY)),
    ("SchedulerName", "schedulerName", TEXT),
    ("Tolerations", "tolerations", Go::List(TOLERATION)),
    ("HostAliases", "hostAliases", Go::List(ALIAS)),
    ("PriorityClassName", "priorityClassName", TEXT),
    ("Priority", "priority", NULL),
    ("PreemptionPolicy", "preemptionPolicy", NULL),
    ("DNSConfig", "dnsConfig", Go::Pointer(DNS)),
    ("ReadinessGates", "readinessGates", Go::List(GATE)),
    ("RuntimeClassName", "runtimeClassName", NULL),
    ("Overhead", "overhead", NULL),
    ("EnableServiceLinks", "enableServiceLinks", NULL),
    ("TopologySpreadConstraints", "topologySpreadConstraints", Go::List(SPREAD)),
    ("OS", "os", Go::Pointer(NAMED)),
    ("SchedulingGates", "schedulingGates", Go::List(NAMED)),
    ("ResourceClaims", "resourceClaims", Go::List(RESOURCE_CLAIM)),
    ("Resources", "resources", Go::Pointer(RESOURCES)),
    ("HostnameOverride", "hostnameOverride", NULL),
    ("SchedulingGroup", "schedulingGroup", NULL),
];

/// `{"labels":…,"Spec":…}`: the metadata keeps its names, and leaves out what is empty.
pub(crate) fn template(template: &Value) -> String {
    const META: &[&str] =
        &["name", "generateName", "namespace", "labels", "annotations", "ownerReferences", "finalizers"];
    let given = META.iter().filter_map(|name| {
        let value = template.look("metadata").get(name)?;
        Some(format!("{}:{value}", quote(name)))
    });
    let spec = format!("\"Spec\":{}", golang::show(template.look("spec"), SPEC));
    format!("{{{}}}", given.chain([spec]).collect::<Vec<_>>().join(","))
}
