# English. The keys are those of zh-CN.ftl; a missing one fails a test.
# Shell
shell-skip = Skip to content
shell-search = Find a terminal
shell-search-hint = Serial number, or its last digits
shell-navigation = Main menu
shell-sign-out = Sign out
shell-language = Language
shell-theme = Theme
shell-as-of = As of { $time }
shell-quickstart = Quick-start mode: the signing keys are on this server. Do not connect real terminals.
language-zh-CN = 中文
language-en = English
theme-auto = Auto
theme-light = Light
theme-dark = Dark
nav-work = Work
nav-overview = Overview
nav-terminals = Terminals
nav-update = Updates
nav-releases = Packages
nav-rollouts = Rollouts
nav-manage = Manage
nav-organizations = Organizations
nav-operators = Operators
nav-audit = Audit
role-platform_admin = Platform administrator
role-release_manager = Release manager
role-approver = Approver
role-org_admin = Organization administrator
role-org_ops = Organization operations
role-field = Field engineer
role-auditor = Auditor

# Lists
list-actions = Actions
filter-any = Any
filter-apply = Apply
filter-clear = Clear filters
pager-first = First page
pager-next = Next page
problem-home = Back to the overview
problem-request = Request id

# Moments
moment-now = just now
moment-due = due now
moment-ago-seconds = { $n ->
    [one] { $count } second ago
   *[other] { $count } seconds ago
}
moment-ago-minutes = { $n ->
    [one] { $count } minute ago
   *[other] { $count } minutes ago
}
moment-ago-hours = { $n ->
    [one] { $count } hour ago
   *[other] { $count } hours ago
}
moment-ago-days = { $n ->
    [one] { $count } day ago
   *[other] { $count } days ago
}
moment-in-seconds = { $n ->
    [one] in { $count } second
   *[other] in { $count } seconds
}
moment-in-minutes = { $n ->
    [one] in { $count } minute
   *[other] in { $count } minutes
}
moment-in-hours = { $n ->
    [one] in { $count } hour
   *[other] in { $count } hours
}
moment-in-days = { $n ->
    [one] in { $count } day
   *[other] in { $count } days
}

# Problems
problem-title-400 = The request cannot be read
problem-title-403 = Not allowed
problem-title-404 = Not found
problem-title-405 = Wrong method
problem-title-409 = Not possible in the present state
problem-title-413 = Too large
problem-title-422 = A field was refused
problem-title-503 = The server is busy
problem-title-other = Something went wrong
problem-advice-400 = Go back, fill in the form again and send it.
problem-advice-403 = Your role does not include this. Ask an administrator of your organization if you need it.
problem-advice-404 = There is nothing here that you may see. It may not exist, or belong to another organization.
problem-advice-405 = Use the buttons and links of the pages.
problem-advice-409 = Somebody may just have changed it. Go back and reload to see its present state.
problem-advice-413 = Make the file smaller, or split it.
problem-advice-422 = Go back, correct the field and send it again.
problem-advice-503 = Try again in a moment; the server recovers by itself.
problem-advice-other = Try again later. If it stays, tell your administrator the request id below.

# Signing in
login-title = Sign in
login-lead = Terminal management and updates
login-name = Login name
login-password = Password
login-submit = Sign in
login-wrong = The login name or the password is wrong.
login-locked = Too many failures. Try again in { $seconds } seconds.
login-suspended = The organization is suspended. Ask the organization above it.
setup-title = First run
setup-lead = Create the first platform administrator. This page exists only while there is no account.
setup-token = One-time token
setup-token-hint = The server printed it to its log when it started.
setup-organization = Name of headquarters
setup-name = Your name
setup-password-hint = At least 12 characters.
setup-submit = Create and sign in

# Overview
overview-tiles = Terminals at a glance
overview-all = All terminals
overview-update-failing = Updates failing
overview-empty = No terminals yet
overview-empty-hint = Import a list of serial numbers; terminals appear here once they are activated.
overview-failures = Failures of the last 24 hours: where, and under what conditions
overview-failures-summary = { $failed } of { $total } intervals with a failure
overview-no-combination = No condition stands out
overview-no-combination-hint = Failures are spread as expected; without enough evidence nothing is concluded.
overview-contrast = There is no history yet: compared with the other terminals only, so of low confidence.
overview-where = Conditions
overview-failed-of = Failed / intervals
overview-rate = Failure rate
overview-rate-expected = Expected
overview-lift = Times expected
overview-lift-range = 95% interval { $low }–{ $high }
overview-coverage = Share of excess
overview-outcomes = By outcome
overview-rollouts = Running rollouts
overview-all-rollouts = All rollouts
overview-no-rollouts = No rollout is running.
overview-versions = Firmware versions
overview-no-versions = No terminal has reported a version yet.
overview-share = Share
overview-other-versions = Other versions
attribute-firmware = Firmware
attribute-model = Model
attribute-hardware = Hardware
attribute-app = Application
attribute-config = Configuration
attribute-region = Region
attribute-carrier = Carrier
attribute-access = Network
attribute-signal = Signal
attribute-in_update = During an update

# Names that the server keeps
connection-never = Never
connection-online = Online
connection-late = Late
connection-offline = Offline
connection-missing = Missing
connection-dormant = Dormant
lifecycle-stocked = Stocked
lifecycle-allocated = Allocated
lifecycle-bound = Bound
lifecycle-active = Active
lifecycle-suspended = Suspended
lifecycle-repair = In repair
lifecycle-lost = Lost
lifecycle-unbound = Unbound
lifecycle-retired = Retired
lifecycle-blocked = Blocked
access-5g = 5G
access-4g = 4G
access-3g = 3G
access-2g = 2G
access-wifi = WiFi
access-eth = Cable
access-bt_phone = Phone (Bluetooth)
access-unknown = Unknown network
carrier-CMCC = China Mobile
carrier-CUCC = China Unicom
carrier-CTCC = China Telecom
carrier-CBN = China Broadnet
carrier-unknown = Unknown carrier
signal-good = Good signal
signal-fair = Fair signal
signal-poor = Poor signal
signal-bad = Bad signal
signal-unknown = Signal not measured
stage-card_read = Card reading
stage-pin = PIN entry
stage-pack = Packing
stage-dns = Name resolution
stage-tcp = TCP connect
stage-tls = TLS handshake
stage-send = Sending
stage-wait = Waiting for the answer
stage-mac_verify = MAC verification
stage-host_resp = Host's answer
stage-esign = Signature
stage-upload = Upload
transaction-sale = Sale
transaction-void = Void
transaction-refund = Refund
transaction-preauth = Pre-authorization
transaction-sign_in = Sign-in
transaction-settle = Settlement
transaction-other = Other
phase-waiting = Queued
phase-offered = Offered
phase-downloading = Downloading
phase-installing = Installing
phase-rebooting = Rebooting
phase-trial = On trial
phase-succeeded = Succeeded
phase-failed = Failed
phase-rolled_back = Rolled back
phase-timed_out = Timed out
phase-cancelled = Cancelled
phase-deferred = Deferred
reason-wrong_key = Signed with a key that is not trusted
reason-below_threshold = Too few signatures
reason-duplicate_signature = The same signature twice
reason-digest_mismatch = The content does not match its digest
reason-truncated = The file is cut off
reason-too_long = The file is longer than stated
reason-wrong_model = Made for another model
reason-downgrade = It would go back to an older version
reason-expired_metadata = The metadata has expired
reason-director_image_disagree = The two signed repositories disagree
reason-wrong_director_document = The order is for another terminal
reason-malformed_metadata = The metadata is malformed
reason-quickstart_root = Quick-start keys are not accepted
reason-requirement_missing = A required component is missing
reason-starting_version_too_old = The present version is too old to update from
reason-state_damaged = The terminal's update state is damaged
reason-no_space = Not enough space
reason-storage_error = Storage error
reason-network_error = The network broke off; the download goes on later
reason-server_busy = The server shed load; this is no attempt
reason-installer_failed = The installer failed
reason-boot_failed = The new version did not start
reason-health_check_failed = The health check failed
reason-trial_deadline = The trial ran out of time
reason-rolled_back_before = It was rolled back from this version before
reason-not_idle = The terminal is in use
reason-transaction_pending = A transaction or reversal is pending
reason-low_battery = Low battery
reason-wifi_only = WiFi only; waiting for WiFi
reason-cancelled = Cancelled
rollout-draft = Draft
rollout-awaiting_approval = Awaiting approval
rollout-running = Running
rollout-paused = Paused
rollout-halted = Halted
rollout-succeeded = Completed
rollout-cancelled = Aborted
release-state-draft = Draft
release-state-approved = Approved
release-state-published = Published
release-state-withdrawn = Withdrawn
status-active = Active
status-suspended = Suspended
status-disabled = Disabled
actor-operator = Operator
actor-api_key = API key
actor-terminal = Terminal
actor-system = System

# Terminals
terminals-import = Import terminals
terminals-search = Search
terminals-search-hint = SN tail, merchant, store
terminals-none-match = No terminal matches
terminals-none-match-hint = The filter may be too narrow, or the terminal belongs to another organization.
terminal-state = State
terminal-lifecycle = Lifecycle
terminal-model = Model
terminal-merchant = Merchant / store
terminal-organization = Organization
terminal-tags = Tags
terminal-firmware = Firmware
terminal-network = Network
terminal-last-seen = Last seen
terminal-drift = Configuration drift
terminal-region = Region

# Audit
audit-verify = Verify the chain
audit-unverified = The chain was not verified just now
audit-whole = { $n ->
    [one] The chain is whole: { $count } entry
   *[other] The chain is whole: { $count } entries
}
audit-broken = The chain is broken at entry { $seq }
audit-empty = No entries yet
audit-number = No.
audit-who = Who
audit-what = What
audit-object = Object
audit-detail = Detail
object-terminal = Terminal
object-rollout = Rollout
object-release = Package
object-organization = Organization
object-operator = Operator
object-api_key = API key
object-profile = Profile
object-import = Import
failure-when = When

# Organizations and operators
organization-name = Name
organization-code = Short code
organization-status = Status
organization-terminals = Terminals
organization-new = New organization
organization-parent = Parent
organization-create = Create
operator-name = Name
operator-role = Role
operator-since = Since
operator-new = New operator
operator-password = First password
operator-create = Create
done-organization = The organization was created.
done-operator = The operator was created.

# Terminal page
terminal-copy = Copy
terminal-why = What is the matter with it
terminal-conditions = Conditions
terminal-no-samples = No samples in this span
terminal-no-samples-hint = Each check-in leaves a sample once the terminal is online.
terminal-failures = Failures
terminal-failures-note = { $n ->
    [one] The last { $count }; open it for the conditions it happened under
   *[other] The last { $count }; open one for the conditions it happened under
}
terminal-no-failures = No failures
terminal-no-failures-hint = Each failure a terminal reports is shown here with the conditions it happened under.
terminal-software = Software
terminal-record = Record
terminal-updates = Update timeline
terminal-no-updates = No updates yet.
terminal-actions = Actions
terminal-action = Action
terminal-confirm = Type the last characters of the serial number, { $tail }, to confirm
terminal-action-submit = Do it
terminal-transactions = OK / failed
terminal-next = Next check-in { $when }
terminal-seen = Last seen { $ago }
terminal-never-seen = Never seen
terminal-desired = Desired
terminal-reported = Reported
terminal-slot = Slot
terminal-agent = Agent
terminal-config-desired = Desired config hash
terminal-config = Config hash
terminal-check-ins = Check-ins
config-title = Config
config-none = No parameters
config-none-hint = Parameters come from profiles that are in force for everybody, for an organization, for a group or for this terminal.
config-parameter = Parameter
config-value = Expected
config-origin = From
config-agrees = As expected
config-pending = Waiting for the terminal to take it
config-drifts-since = since { $time }
config-not-reported = The terminal has not reported any parameters yet.
config-reported-unknown = The terminal reports a set that it was never given here; its values are not known.
terminal-reported-value = Reported
layer-global = Global
layer-organization = Organization
layer-group = Group
layer-terminal = Terminal
drift-watching = Differs from what was expected
drift-repairing = Being applied again
drift-alarmed = Does not take its parameters
terminal-tusn = TUSN
terminal-merchant-no = Merchant no.
terminal-merchant-name = Merchant
terminal-store = Store
terminal-terminal-no = Terminal no.
terminal-iccid = ICCID
terminal-imei = IMEI
terminal-enrolled = Enrolled
terminal-key = Key fingerprint
terminal-notes = Notes
activation-make = Make an activation code
activation-shown-once = The activation code is shown only once. Write it down now:
activation-expires = It expires { $when }
span-24h = 24 hours
span-7d = 7 days
chart-title = Conditions of { $sn }
chart-description = Signal and round trip from { $from } to { $to }; vertical lines are failures.
chart-signal = Signal (dBm)
chart-rtt = Round trip (ms)
chart-failures = Failures
chart-as-table = Show as a table
condition-carrier = Carrier
condition-band = Signal band
condition-rsrp = RSRP
condition-rsrq = RSRQ
condition-sinr = SINR (dB)
condition-rssi = RSSI
condition-cell = Cell
condition-radio = Radio
condition-latency = Latency
condition-dns = DNS
condition-tcp = TCP
condition-tls = TLS
condition-rtt = To this server
condition-host-rtt = To the payment host
condition-loss = Loss
condition-battery = Battery
condition-in-update = During an update
condition-not-in-update = Not during an update
failure-code = Code { $code }
failure-happened = What happened
failure-stage = Stage
failure-response = Response code
failure-transaction = Transaction
failure-amount = Amount
failure-yuan = CNY { $yuan }
failure-duration = Duration
failure-trace = Trace no.
failure-note = Note
failure-received = Received
why-never = It has never been online: activate it with an activation code.
why-not-enrolled = It is not activated: make an activation code and enter it on the terminal.
why-online = It is online and checks in on time.
why-late = It is later than expected, but not offline yet.
why-offline = It is offline: last seen { $ago }, and its expected check-in has passed.
why-failures = { $count } failures in the last 24 hours, most of them at "{ $stage }".
why-no-failures = No failure was reported in the last 24 hours.
why-signal = Its network at the last check-in: { $network }.
why-update = Update to { $version }: { $phase }.
why-update-reason = Update to { $version }: { $phase }. Reason: { $reason }.
why-update-next = It goes on at the next check-in, { $when }.
why-current = It runs the desired version.
why-lifecycle = Its lifecycle state is "{ $state }": it gets no ordinary updates.
action-allocate = Allocate
action-recall = Take back
action-bind = Bind
action-activate = Activate
action-deactivate = Undo activation
action-unbind = Unbind
action-suspend = Suspend
action-resume = Resume
action-send_to_repair = Send to repair
action-finish_repair = Finish repair
action-report_lost = Report lost
action-found = Found
action-retire = Retire
action-block = Block
action-unblock = Unblock
done-lifecycle = Done; the lifecycle state has changed.

# Packages
releases-lead = Only published packages can be rolled out; terminals install only what their signatures name.
releases-empty = No packages
releases-empty-hint = Upload a vendor's firmware, approve and publish it, then roll it out.
release-name = Name
release-version = Version
release-models = Models
release-size = Size
release-state = State
release-made = Made
release-component = Component
release-counter = Release counter
release-counter-hint = Above every earlier one of the component; terminals refuse to go back by it.
release-models-hint = Model codes, set apart by blanks or commas.
release-min-from = Smallest counter to update from
release-notes = Notes
release-payload = Firmware file
release-upload = Add a package
release-upload-submit = Upload
release-roll-out = Roll out
release-verb-approve = Approve
release-verb-publish = Publish
release-verb-withdraw = Withdraw
done-uploaded = Uploaded as a draft.
done-approved = Approved.
done-published = Published.
done-withdrawn = Withdrawn; it is offered to no terminal any more.

# Rollouts
rollouts-empty = No rollouts
rollouts-empty-hint = Choose a published package and its scope, look at the preview, then start.
rollout-new = New rollout
rollout-new-lead = It is saved as a draft; you see a preview before it starts.
rollout-no-releases = No package is published yet.
rollout-release = Package
rollout-name = Name
rollout-state = State
rollout-owner = Owner
rollout-progress = Progress
rollout-from-versions = Versions to update from
rollout-sns = Selected terminals (serial numbers)
rollout-sns-hint = One a line, or set apart by commas or blanks. Empty means any.
rollout-create = Save and preview
rollout-done-of = { $done } of { $total } succeeded
rollout-failed-n = { $n ->
    [one] { $count } not successful
   *[other] { $count } not successful
}
rollout-selected = { $n ->
    [one] { $count } selected terminal
   *[other] { $count } selected terminals
}
rollout-scope-all = All terminals
rollout-preview = Preview
rollout-matched = { $n ->
    [one] { $count } terminal will be updated
   *[other] { $count } terminals will be updated
}
rollout-exclusions = Left out
rollout-sample = A sample
rollout-type-count = Type the number of terminals, { $n }, to confirm
rollout-start = Start
rollout-pause = Pause
rollout-resume = Resume
rollout-cancel = Abort
rollout-why = Reason
rollout-why-pause = Paused by hand
rollout-pause-note = Nothing new is offered while paused; terminals that already install go on.
rollout-cancel-note = An aborted rollout stays aborted; terminals that already install go on.
rollout-reasons = Reasons
rollout-reason = Reason
rollout-phase = Phase
rollout-waiting-for = Waiting for
rollout-from = From
rollout-since = Since
rollout-expected = Next check-in
rollout-no-terminals = No terminals
rollout-no-terminals-hint = Once it is started, the terminals of its scope appear here.
waiting-paused = The rollout is paused
waiting-admission = Waiting for its turn
waiting-check-in = Waiting for its next check-in
waiting-download = The terminal was told; waiting for the download to start
waiting-bytes = { $done } of { $total }
waiting-overdue = Overdue since { $ago }
exclusion-at_target = At the target version already
exclusion-model_mismatch = Another model
exclusion-lifecycle_not_allowed = Lifecycle state allows no updates
exclusion-busy_elsewhere = Busy in another rollout
exclusion-never_enrolled = Never enrolled
exclusion-rolled_back_before = Rolled back from this package before
done-draft = The draft is saved; look at the preview.
done-started = The rollout is running.
done-paused = Paused.
done-resumed = Resumed.
done-cancelled = Aborted.

# Import
import-title = Import terminals
import-lead = CSV in UTF-8 or GBK. Try it first: a dry run writes nothing.
import-file = File
import-file-hint = At most 200,000 rows in one file.
import-how = How
import-dry-run = Dry run: only check
import-for-real = Import
import-submit = Upload
import-columns = Columns
import-columns-hint = The first line names the columns; sn and model are required, the others may be left out.
import-errors-file = Download the refused rows (CSV)
import-result-dry = Result of the dry run
import-result = Result of the import
import-encoding = Encoding
import-rows = Rows
import-created = New
import-updated = Changed
import-unchanged = Unchanged
import-invalid = Refused
import-warnings = With a warning
import-ignored = Unknown columns

# Incidents and alerts
nav-incidents = Alerts
incident-open = Open
incident-acknowledged = Acknowledged
incident-mitigated = Mitigated
incident-resolved = Resolved
incident-unresolved = Unresolved
incident-event-open = Opened
incident-event-reopen = Came back
incident-event-raise = More urgent
incident-event-acknowledge = Acknowledged
incident-event-mitigate = Mitigated
incident-event-resolve = Resolved
incident-event-assign = Assigned to
incident-event-note = Note
incident-event-remind = Reminder: overdue
level-P1 = P1 now
level-P2 = P2 within the hour
level-P3 = P3 within the day
alert-incident_opened = New alert
alert-incident_reopened = Came back
alert-incident_raised = More urgent
alert-incident_overdue = Overdue
alert-state-unrouted = Console only: no channel is set up
alert-state-pending = On its way
alert-state-sent = Delivered
alert-state-failed = Not delivered
alert-state-acknowledged = Acknowledged
incidents-empty = No alerts
incidents-empty-hint = Halted rollouts, configuration drift and the like appear here, with their evidence.
incident-what = What
incident-kind = Kind
incident-level = Level
incident-state = State
incident-affected = Terminals
incident-owner = Owner
incident-nobody = Nobody
incident-seen = Last seen
incident-opened = First seen
incident-occurrences = Times seen
incident-due = Reminder
incident-rollout = Rollout
incident-to-rollout = Look at the rollout
incident-acknowledge = Acknowledge
incident-take = Assign to me
incident-mitigate = Mark as mitigated
incident-mitigate-note = The harm has stopped, the cause may still be there. If it comes back, this opens again.
incident-resolve = Mark as resolved
incident-resolve-note = If it comes back within seven days, this opens again.
incident-what-done = What was done
incident-evidence = Evidence
incident-evidence-then = Evidence of that time
incident-no-evidence = No data came with it.
incident-raw = As it was written
incident-timeline = What happened
incident-note = Add a note
incident-note-add = Add
incident-facts = Summary
incident-alerts = Who was told
done-acknowledged = Acknowledged.
done-taken = Assigned to you.
done-mitigated = Marked as mitigated.
done-resolved = Marked as resolved.
done-noted = Note added.
object-incident = Incident
object-alert_channel = Alert channel
shell-bell = { $n ->
    [one] { $count } alert waits
   *[other] { $count } alerts wait
}
incident-affected-n = { $n ->
    [one] { $count } terminal
   *[other] { $count } terminals
}
incident-times = { $n ->
    [one] { $count } time
   *[other] { $count } times
}
incident-terminals-beyond = { $n ->
    [one] { $count } more is not listed
   *[other] { $count } more are not listed
}
incident-kind-rollout_halted = Rollout halted
incident-title-rollout_halted = Rollout “{ $subject }” was halted
incident-kind-rollout_scope_stopped = Rollout stopped in part
incident-title-rollout_scope_stopped = A part of a rollout was stopped: { $subject }
incident-kind-config_drift = Configuration drift
incident-title-config_drift = Configuration drift: { $subject }
incident-kind-failure_rise = Rise of failures
incident-title-failure_rise = More payments fail: { $subject }
incident-kind-bank_outage = Bank or switch outage
incident-title-bank_outage = Bank or switch outage: { $subject }
incident-kind-area_outage = Area or carrier outage
incident-title-area_outage = Area or carrier outage: { $subject }
incident-kind-sim_pool = SIM pool down
incident-title-sim_pool = SIM pool down: { $subject }
incident-kind-firmware_regression = Firmware regression
incident-title-firmware_regression = Firmware regression: { $subject }
incident-kind-terminal_suspect = Terminal under suspicion
incident-title-terminal_suspect = Terminal under suspicion: { $subject }
incident-kind-merchant_switch = Merchant switched (跳码)
incident-title-merchant_switch = Merchant number differs: { $subject }
incident-kind-amount_short = Amount short
incident-title-amount_short = Money arrived short: { $subject }
incident-kind-settlement_missing = One-sided payment
incident-title-settlement_missing = Known to one side alone: { $subject }
incident-kind-tamper = Tampering
incident-title-tamper = Tampering reported: { $subject }
incident-kind-terminals_offline = Many terminals offline
incident-title-terminals_offline = Many terminals offline: { $subject }
incident-kind-blocked_calling = Blocked terminal calling
incident-title-blocked_calling = Blocked terminal calling: { $subject }
incident-kind-expiry = Running out
incident-title-expiry = Running out: { $subject }
evidence-affected = Affected
evidence-alpha = Alpha
evidence-arm = Arm
evidence-cells = Cells
evidence-conditions = Conditions
evidence-control = Control
evidence-coverage = Coverage
evidence-expected = Expected
evidence-exposures = Exposures
evidence-failed = Failed
evidence-failures = Failures
evidence-field = Field
evidence-lift = Lift
evidence-lift_high = Lift, high
evidence-lift_low = Lift, low
evidence-observed = Observed
evidence-omitted = Left out for their size
evidence-outcomes = Outcomes
evidence-p_adjusted = p, corrected
evidence-place = Place
evidence-rate = Rate
evidence-reason = Reason
evidence-reasons = Why it was judged so
evidence-rule = Rule
evidence-scope = Scope
evidence-silent = Silent
evidence-stage = Stage
evidence-started = Started
evidence-threshold = Threshold
evidence-treated = Treated
evidence-value = Value
evidence-verdict = Verdict
evidence-weight = Weight
evidence-why = Why
evidence-yes = yes
evidence-no = no
evidence-pass = pass
evidence-fail = fail
evidence-insufficient = insufficient
evidence-groups = Side by side
evidence-group = Group
