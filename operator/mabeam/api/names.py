"""All names that appear in a cluster: group, labels, annotations, objects, condition types and reasons."""

from enum import StrEnum
from typing import Final

GROUP: Final = "mabeam.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "mabeam"
FIELD_MANAGER: Final = "mabeam"
CONTROLLER: Final = "mabeam.dev/operator"

# Pod and label names derive from an object's name (`<agent>-<ordinal>-<incarnation>` must stay within 63 characters).
MAX_NAME_LENGTH: Final = 50

# Labels of every object that the operator creates. Labels of the owner are not copied: a GitOps tool's tracking label
# must not spread.
LABEL_NAME: Final = "app.kubernetes.io/name"
LABEL_COMPONENT: Final = "app.kubernetes.io/component"
LABEL_PART_OF: Final = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_AGENT: Final = "mabeam.dev/agent"
LABEL_VARIABLE: Final = "mabeam.dev/variable"
LABEL_ORDINAL: Final = "mabeam.dev/ordinal"
LABEL_INCARNATION: Final = "mabeam.dev/incarnation"
# On a pod that has ended and is kept for its log: the scale subresource's selector leaves it out.
LABEL_ENDED: Final = "mabeam.dev/ended"
MANAGED_BY: Final = "mabeam"

# A pod template must not set these: a forged selector label would take over another agent's identity.
RESERVED_LABELS: Final = (LABEL_NAME, LABEL_COMPONENT, LABEL_PART_OF, LABEL_MANAGED_BY)
RESERVED_PREFIX: Final = "mabeam.dev/"

ANNOTATION_RELEASE: Final = "mabeam.dev/release"
# Put on an Agent: each new value moves its pods to other nodes.
ANNOTATION_MIGRATE: Final = "mabeam.dev/migrate"
# Put on an Agent: each new value replaces its pods, one replica at a time.
ANNOTATION_RESTART: Final = "mabeam.dev/restart"
# Put on a pod by an outside observer: the pod counts as failed; the value is the reason.
ANNOTATION_FAILED: Final = "mabeam.dev/failed"
# Put on a variable by a human: the id of an accepted proposal, which this approves or rejects.
ANNOTATION_APPROVE: Final = "mabeam.dev/approve"
ANNOTATION_REJECT: Final = "mabeam.dev/reject"
# Beside either: who it is; the approval policy lets everyone give their own name only.
ANNOTATION_APPROVER: Final = "mabeam.dev/approver"
# Put on a pod when it is made: the name of the container that is the agent's process. A webhook may add containers before it.
ANNOTATION_MAIN_CONTAINER: Final = "mabeam.dev/main-container"
ANNOTATION_SPEC_HASH: Final = "mabeam.dev/spec-hash"
ANNOTATION_CONTENT_HASH: Final = "mabeam.dev/content-hash"
ANNOTATION_GENERATION: Final = "mabeam.dev/directives-generation"
ANNOTATION_NUDGE: Final = "mabeam.dev/directives-nudge"

DIRECTIVES_DIR: Final = "/etc/mabeam"
DIRECTIVES_KEY: Final = "directives.json"
HISTORY_KEY: Final = "history.json"
DIRECTIVES_VOLUME: Final = "mabeam-directives"
# Environment variables of the contract (docs/agent-contract.md): the operator alone sets them.
RESERVED_ENV_PREFIX: Final = "MABEAM_"
MAIN_CONTAINER: Final = "agent"
# Environment variable of the main container: the name of its pod.
ENV_POD: Final = "MABEAM_POD"
REPORT_PORT: Final = 9464
REPORT_PATH: Final = "/metrics"
REPORT_PORT_NAME: Final = "mabeam-report"
# Beside the report: 200 once the SDK's agent can work, 503 before.
READINESS_PATH: Final = "/readyz"
# In the Lease's namespace: what this service is, offers and needs, and its address.
SERVICE_CONFIG_MAP: Final = "mabeam-service"


def directives_config_map(agent: str) -> str:
    """The name of the ConfigMap that holds an agent's effective directives."""
    return f"{agent}-mabeam"


def network_policy(agent: str) -> str:
    """The name of the NetworkPolicy that restricts an agent to its topology."""
    return f"{agent}-mabeam"


def decision_config_map(variable: str) -> str:
    """The name of the ConfigMap with a variable's last decision, for `mabeam explain` and `mabeam replay`."""
    return f"{variable}-mabeam-decision"


def history_config_map(variable: str) -> str:
    """The name of the ConfigMap that holds a variable's past decisions."""
    return f"{variable}-mabeam-history"


def variable_config_map(variable: str) -> str:
    """The name of the ConfigMap with all directives of a variable that has more than fit into its status."""
    return f"{variable}-mabeam-directives"


def pod_name(agent: str, ordinal: int, incarnation: int) -> str:
    """`<agent>-<ordinal>-<incarnation>`: the name is the idempotency key of one incarnation."""
    return f"{agent}-{ordinal}-{incarnation}"


class ConditionType(StrEnum):
    """Condition types. Ready, Reconciling and Stalled are those of kstatus; the others are this project's."""

    ACCEPTED = "Accepted"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    REPORTS_VALID = "ReportsValid"
    DIRECTIVES_DELIVERABLE = "DirectivesDeliverable"
    AGENTS_RESOLVED = "AgentsResolved"
    CONSENSUS_REACHED = "ConsensusReached"
    PAUSED = "Paused"
    RECORDED = "Recorded"
    CHILDREN_RESOLVED = "ChildrenResolved"


class Reason(StrEnum):
    """Reasons of conditions and Events: a closed list, explained in docs/architecture.md, "Conditions and reasons"."""

    # Accepted
    VALID = "Valid"
    INVALID_SPEC = "InvalidSpec"
    POD_REFUSED = "PodRefused"
    # Agents
    AGENT_REGISTERED = "AgentRegistered"
    AGENT_STARTED = "AgentStarted"
    AGENT_STOPPED = "AgentStopped"
    AGENT_FAILED = "AgentFailed"
    AGENT_RELEASED = "AgentReleased"
    AGENT_PROBED = "AgentProbed"
    AGENT_DISRUPTED = "AgentDisrupted"
    AGENT_MIGRATED = "AgentMigrated"
    POD_ADOPTED = "PodAdopted"
    RUNNING = "Running"
    STARTING = "Starting"
    NOT_READY = "NotReady"
    SIDECAR_FAILED = "SidecarFailed"
    TEMPLATE_ADJUSTED = "TemplateAdjusted"
    BACK_OFF = "BackOff"
    UNSCHEDULABLE = "Unschedulable"
    REPLACING = "Replacing"
    ROLLOUT_HALTED = "RolloutHalted"
    MIGRATING = "Migrating"
    FENCING = "Fencing"
    PARKED_BY_RULE = "ParkedByRule"
    NAME_TAKEN = "NameTaken"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    COMPLETED = "Completed"
    DISRUPTED = "Disrupted"
    FAILED = "Failed"
    AS_DESIRED = "AsDesired"
    PROGRESSING = "Progressing"
    RESTART_BUDGET_EXHAUSTED = "RestartBudgetExhausted"
    REPORTS_OK = "ReportsOk"
    BAD_REPORT = "BadReport"
    UNREACHABLE = "Unreachable"
    DELIVERABLE = "Deliverable"
    NOT_DELIVERABLE = "NotDeliverable"
    # Supervisors
    HELD = "Held"
    ESCALATED = "Escalated"
    GROUP_RESTARTED = "GroupRestarted"
    AUTO_SHUTDOWN = "AutoShutdown"
    SUPERVISOR_RELEASED = "SupervisorReleased"
    CHILDREN_MISSING = "ChildrenMissing"
    CHILD_FAILED = "ChildFailed"
    INVALID_TREE = "InvalidTree"
    # Variables; some of these are CoordinationError values too (api/variable.py)
    VARIABLE_REGISTERED = "VariableRegistered"
    COORDINATION_COMPLETED = "CoordinationCompleted"
    COORDINATION_FAILED = "CoordinationFailed"
    ALL_RESOLVED = "AllResolved"
    AGENTS_MISSING = "AgentsMissing"
    RECORDS_STORED = "RecordsStored"
    RECORDS_REFUSED = "RecordsRefused"
    CONVERGED = "Converged"
    DELIVERING = "Delivering"
    ADVISED = "Advised"
    PAUSED = "Paused"
    NOT_PAUSED = "NotPaused"
    REFUSED = "Refused"
    NO_OFFERS = "NoOffers"
    RESERVE_NOT_MET = "ReserveNotMet"
    TIMEOUT = "Timeout"
    AGENT_UNAVAILABLE = "AgentUnavailable"
    RESOURCE_EXHAUSTED = "ResourceExhausted"
    INVALID_CONFIGURATION = "InvalidConfiguration"
    FUNCTION_FAILED = "FunctionFailed"
    CONSTRAINT_VIOLATION = "ConstraintViolation"
    EVALUATING = "Evaluating"
    VOTING = "Voting"
    AWAITING_APPROVAL = "AwaitingApproval"
    APPROVAL_UNMATCHED = "ApprovalUnmatched"
    CONSENSUS_REACHED = "ConsensusReached"
    CONSENSUS_REJECTED = "ConsensusRejected"
    NO_PROPOSAL = "NoProposal"
    FAILURE_BUDGET_EXHAUSTED = "FailureBudgetExhausted"
    VARIABLE_RELEASED = "VariableReleased"
    UNSUPPORTED_COORDINATION_TYPE = "UnsupportedCoordinationType"
