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

# Staged rollouts
rollout-profile = Parameters
rollout-revise = Change the draft
rollout-copy = Copy as a new one
rollout-create-hint = Only a draft is saved and nothing is offered; next comes the preview with the count to confirm.
rollout-without-tags = Without the tags
rollout-blocked = { $n ->
    [one] { $count } terminal left out
   *[other] { $count } terminals left out
}
rollout-of-rollout = Terminals of rollout { $id } that ended as: { $phases }
rollout-stage-of = Stage { $stage } of { $stages }
rollout-why-submit = Why, for the person who approves
rollout-submit = Submit for approval
rollout-needs-approval = So many terminals need a second person: it starts once somebody else approves.
rollout-type-id = Type the number of the rollout, { $id }, to confirm
rollout-settings = Settings
rollout-advance = Open the next stage
rollout-advance-note = Opens the next stage without waiting for the soak time and the gate. For many terminals somebody else has to approve it.
rollout-override = Go on after the halt
rollout-override-note = The evidence stays: later failures are judged together with it. For many terminals somebody else has to approve it.
rollout-retry = Try the unsuccessful again
rollout-retry-note = Makes a draft for the failed and silent terminals only, with everything else as it was; it starts after its preview.
rollout-undo = Undo
rollout-undo-note = Terminals never accept a lower release counter: publish the earlier firmware again with a higher counter, then choose it here. It goes only to terminals that this rollout updated.
rollout-undo-none = No published package of the same component has a higher counter.
rollout-undo-release = Package that brings them back
rollout-make-draft = Make the draft
retry-n = { $n ->
    [one] { $count } terminal was not successful
   *[other] { $count } terminals were not successful
}
undo-n = { $n ->
    [one] { $count } terminal was updated
   *[other] { $count } terminals were updated
}
part-stop = Stop a part
part-stop-note = Stops only a part; the rest goes on. Choose the part, see what it does, then confirm.
part-stopped = Stopped
part-cancels = { $n ->
    [one] { $count } assignment that is not installing yet is cancelled
   *[other] { $count } assignments that are not installing yet are cancelled
}
part-installing = { $n ->
    [one] { $count } terminal is installing already and goes on
   *[other] { $count } terminals are installing already and go on
}
part-type = Type { $value } to confirm
stopped-parts = Parts stopped alone
stopped-by-gate = Stopped by the gate
why-revised = Changed, now rollout { $id }
why-expired = Ended by its time limit
request-title = Waiting for approval
request-start = Asks to start
request-widen = Asks to open the next stage
request-override = Asks to go on after the halt
request-approve = Approve
request-reject = Send back
request-own = You asked for this yourself; somebody else has to approve it.
request-not-yours = Your role does not approve rollouts.
request-ends = Cancelled unless approved by { $when }
verdict-pass = Pass
verdict-fail = Fail
verdict-insufficient = Insufficient
verdict-meaning-pass = There is enough evidence that it is no worse than tolerated.
verdict-meaning-fail = There is enough evidence that it does harm.
verdict-meaning-insufficient = Nothing is proved yet: neither harm nor the absence of it.
evidence-title = Evidence of harm
evidence-description = A log scale from 1, which is none, to the threshold that halts the rollout.
evidence-words = Evidence { $e } / { $threshold }
evidence-outcome = Outcome of the update
evidence-health = Health afterwards
evidence-scopes = By part of the fleet
evidence-scope = Part
evidence-peak = Highest so far
evidence-clears = Evidence that clears
evidence-started = Started
evidence-failed = Update failed
evidence-pending = Pending
evidence-watched = Watched
evidence-controls = Controls
evidence-until-pass = { $n ->
    [one] If it does no harm, about { $count } more terminal decides.
   *[other] If it does no harm, about { $count } more terminals decide.
}
evidence-missing = What a pass lacks
evidence-compared = Updated against not yet updated
evidence-class = Class of failures
evidence-treated = Updated, failed
evidence-control = Controls, failed
evidence-ratio = Times as often
evidence-e = Evidence
evidence-left-out = Failures not counted:
failure-class-hard = Terminal failures
failure-class-payment = Payment failures
missing-started = Too few terminals have started
missing-health = Health afterwards is not cleared
missing-outcome = The outcome is not cleared
missing-controls = Some failures came when there was nobody to compare with
missing-soak = The soak time has not passed
missing-watched = Terminals are still being watched
missing-scope = A part of the fleet is suspect
left-out-suppressed_by_site = Same store at the same time
left-out-out_of_window = Outside the watch time
left-out-repeated = Same terminal again
halted-title = Halted
halted-by = Evidence of harm in “{ $kind }” reached { $e } of { $threshold }; { $failed } of { $started } started terminals failed.
halted-most = Most of all { $scope } (evidence { $e }).
halted-in-flight = { $n ->
    [one] { $count } terminal is still installing and asks again before it switches.
   *[other] { $count } terminals are still installing and ask again before they switch.
}
halted-incident = See the incident
stage-by-tag = Tag { $tag }
stage-by-count = { $n ->
    [one] { $count } terminal
   *[other] { $count } terminals
}
stage-rest = All the rest
stage-held-back = Held back { $percent }%
stage-hold-back = Control
stage-up-to = Up to { $n } in all
stage-adds-nobody = This stage adds nobody
stage-planned = Planned
stage-waiting = Waiting
stage-started = Started
stage-finished = Ended
stage-failed = Failed
stage-succeeded = Succeeded
stage-busy = Under way
stage-not-open = Not open
stage-state-closed = Not open
stage-state-passed = Passed
stage-state-open = Open now
stage-state-stopped = Stopped here
stage-kind-percent = Per cent
stage-kind-count = Terminals
stage-kind-tag = Tag
soak-until = Watched until { $when } ({ $left })
soak-over = Soak time over; waiting for the gate
span-unit-s = s
span-unit-m = min
span-unit-h = h
span-unit-d = d
weekday-1 = Mon
weekday-2 = Tue
weekday-3 = Wed
weekday-4 = Thu
weekday-5 = Fri
weekday-6 = Sat
weekday-7 = Sun
method-static = Static: those that match now
method-dynamic = Dynamic: later matches, too
windows-local = { $windows } (the store's local time)
retries-after = { $n }, the first after { $wait }
opens-by-itself = Opens by itself after a pass
opens-by-hand = Opened by a person
announced-n = { $n ->
    [one] { $count } announced update
   *[other] { $count } announced updates
}
announced-title = Announced updates
announced-all = All of them
announced-lead = Terminals of these organizations are not updated before the date they were told.
announced-empty = No announced updates
announced-empty-hint = When a rollout is made, organizations can be promised an earliest date.
told-above = An organization above
form-wrong = Correct these first:
form-unit = Unit
form-none = –
form-leave = Leave
form-add-row = Add rows
form-step-what = Package or parameters
form-step-scope = Scope
form-step-scope-lead = All conditions must hold; what is empty does not narrow.
form-step-how = Strategy
form-step-gate = Gate
form-step-gate-lead = Updated terminals are compared with like ones not yet updated at the same time; it stops on evidence.
form-subject = What
form-release = Firmware package
form-release-hint = Only published packages are listed.
form-no-profiles = No profile yet
form-layer = Layer
form-layer-hint = Later layers override earlier ones: global, organization, group, terminal.
form-layer-organization = Organization of the layer
form-layer-tag = Tag of the layer's group
form-method = Update method
form-ends = Until
form-ends-hint = A dynamic rollout takes in new terminals until then.
form-models-hint = None chosen means any model.
form-without-sns = Terminals to leave out (serial numbers)
form-without-sns-hint = These are never updated.
plan-recommended = Recommended: few first
plan-at-once = Everybody at once
form-stages = Stages
form-stages-hint = Numbers count from the start of the rollout; stages by tag come first. All the rest becomes a last stage by itself.
form-stage-kind = This stage by
form-stage-value = Value of this stage
form-hold-back = Hold-back (%)
form-hold-back-hint = Updated last, as a control; 0 for none. At least 20 terminals.
form-soak = Soak time
form-soak-hint = How long each stage is watched once all of it is open.
form-windows = Time windows
form-windows-hint = The store's local time; no day chosen means every day. No window means any time.
form-window-from = From
form-window-until = Until
form-in-flight = At once, at most
form-no-limit = Empty means no limit.
form-in-flight-site = At once in one store
form-in-flight-site-hint = So that no store stands still. Empty means no limit.
form-retries = Retries
form-retry-max = Retry cap
form-retry-max-hint = 0 to 5; a broken connection burns none.
form-retry-wait = Retry interval
form-retry-wait-hint = Doubled with each, at most 24 hours.
form-timeout = Time limit of a terminal
form-timeout-hint = A terminal that does not finish within it counts as timed out.
form-priority = Priority
form-priority-hint = 0 to 100; where two rollouts want the same waiting terminal, the higher one gets it.
form-starts = Scheduled start
form-starts-hint = Empty means at once, after it is confirmed.
form-announcements = Dates announced to organizations
form-announcements-hint = Terminals of the organization and below are not updated before it; they see it on their overview and calendar.
form-not-before = Not before
form-budget = Failure budget
form-budget-percent = Failure budget (%)
form-budget-hint = Share of updates that may fail by themselves, 0.01 to 20.
form-watch = Watch after the update
form-watch-hint = How long each terminal is watched after its update, 1 minute to 7 days.
form-opens-stages = Open the next stage by itself after a pass
form-next-stage = Next stage
sn-unknown = { $sn } is not one of your terminals
rollout-field-name = A name has 1 to 200 bytes, no control characters and nothing like a card number.
rollout-field-why = Give a reason of 1 to 200 bytes without card numbers.
rollout-field-subject = Choose a package that you can see, or a profile with its layer.
rollout-field-layer = Choose a layer; those of an organization or a group need one of your organizations, a group also a tag. Headquarters' own layer is the global one.
rollout-field-organization = The organization is not one of yours.
rollout-field-models = Not a model code, or more than 100.
rollout-field-firmware = Not a version, or more than 100.
rollout-field-tags = Not a tag, or more than 100.
rollout-field-without-tags = Not a tag to leave out, or more than 100.
rollout-field-terminals = At most 10,000; use a tag for more.
rollout-field-without-terminals = At most 10,000 left out; use a tag for more.
rollout-field-stages = At most 12; counts and percentages (1 to 100) must grow from stage to stage, and tags come first.
rollout-field-windows = From and until, 00:00 to 23:59, at most 14 windows.
rollout-field-hold-back = 0 to 50.
rollout-field-soak = 0 to 30 days.
rollout-field-in-flight = 1 to 1,000,000, or empty.
rollout-field-in-flight-site = 1 to 1,000,000, or empty.
rollout-field-announcements = Each row needs one of your organizations and a time.
rollout-field-budget = 0.01 to 20, with two decimals at most.
rollout-field-watch = 1 minute to 7 days.
rollout-field-timeout = 30 seconds to 60 days.
rollout-field-retry-max = 0 to 5.
rollout-field-retry-wait = 0 to 24 hours.
rollout-field-priority = 0 to 100.
rollout-field-starts = Must be within the next year.
rollout-field-ends = A dynamic rollout needs an end after its start, within the next year; a static one has none.
rollout-field-confirm = What was typed is not what was asked for; nothing was done.
rollout-field-count = Type the number of terminals.
refused-state = The rollout is “{ $state }” now; this cannot be done.
refused-release = The package is “{ $state }”; only a published one can be rolled out.
refused-nobody = The scope has no terminal that could be updated; the preview says why each is left out.
refused-count = { $confirmed } terminals were typed, the scope means { $resolved } now; look at the preview again.
refused-approval = { $count } terminals would be updated; from { $from } on somebody else has to approve: submit it instead.
refused-own = Nobody approves their own request; ask somebody else who may approve.
refused-no-request = Nothing waits for approval here.
refused-set-changed = The request was for { $before } terminals, now there are { $now } or other ones; it went back to its maker for a new preview.
refused-last-stage = The last stage is open already.
refused-no-terminals = No terminal of this rollout ended so.
refused-raced = Somebody changed the rollout at the same moment; look at it again.
wait-stage = Its stage is not open yet
wait-hold_back = Held back as a control, updated last
wait-scheduled = The rollout starts later
wait-window = Its store's time window is closed
wait-announced = Its organization was promised a later date
wait-retry = A failed attempt is tried again later
wait-site = Others of its store are at it
wait-offline = It does not call
wait-capacity = As many as may be are at it
wait-stopped = The rollout does not go on
wait-turn = Its turn is now; waiting for its next check-in
wait-stopped-as = The rollout is { $state }
wait-until = { $why }, not before { $when }
withdrawn-rollout_cancelled = The rollout was aborted
withdrawn-rollout_halted = The rollout was halted
withdrawn-scope_stopped = Its part was stopped alone
withdrawn-superseded = A rollout of a higher priority took it over
withdrawn-not_on_layer = It is not on the profile's layer any more
reason-last-seen = Last seen as “{ $phase }”
exclusion-block_listed = On the block list
exclusion-below_minimum = Too old: an intermediate version must come first
exclusion-requirement_missing = Another component must be updated first
exclusion-already_in = Takes part already
exclusion-scope_stopped = Its part was stopped
done-submitted = Submitted for approval.
done-agreed = Approved.
done-rejected = Sent back.
done-advanced = Done, or waiting for approval where it is for many terminals.
done-overridden = Done, or waiting for approval where it is for many terminals.
done-part_stopped = The part was stopped.
why-live = Update to { $version }: { $phase }. { $reason }.
why-next-call = It calls next { $when }.
why-overdue = Its check-in was due { $ago } and has not come.
