// Made by `make types` from the server's models. Changes made here are lost.

export type Request =
  | PatchValues
  | SetWorkflow
  | SetSource
  | Undo
  | Redo
  | Cancel
  | Pause
  | Resume
  | SetFailPolicy
  | AddSink
  | RemoveSink
  | SetSize
  | SavePreset
  | ApplyPreset
  | DeletePreset
  | Describe;

export type Notice =
  | StateNotice
  | SourceNotice
  | RevisionNotice
  | PrepareFailedNotice
  | SinkNotice
  | SizeNotice
  | PresetsNotice
  | ProgressNotice
  | ActivatedNotice
  | RolledBackNotice
  | NodeFailedNotice
  | NodeBlockedNotice
  | NodeMessageNotice
  | EngineLostNotice
  | EngineRestartedNotice
  | PackBrokenNotice
  | ShutdownNotice
  | TextNotice
  | StatsNotice;

/** Revision `revision` makes the outputs from input frame `first_frame` of `lane` on. */
export interface ActivatedData {
  lane: Lane;
  first_frame: number;
}

export interface ActivatedNotice {
  v: 1;
  type: "event";
  event: "activated";
  revision: number;
  data: ActivatedData;
}

/** Record or push the output, beside what else is done with it; the reply has the sink's id. */
export interface AddSink {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "add_sink";
  sink: RecordTo | PushTo;
}

/** Set the values that were kept under a name, all or none. */
export interface ApplyPreset {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "apply_preset";
  name: string;
}

/** Runs of sound that came. */
export interface AudioInFigures {
  frames: number;
}

/** Slices of 20 ms that went out; `silent` ones are of them. */
export interface AudioOutFigures {
  slices: number;
  silent: number;
  dropped_samples: number;
}

/** Withdraw the edit that is being prepared, whoever asked for it; its own reply has the error code `cancelled`. */
export interface Cancel {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "cancel";
}

/**
 * What a page needs to connect: `iceServers` of its connection, and the version of the control protocol.
 *
 * `recording`: this server keeps recordings. `push_urls`: patterns of the receivers that it may send to.
 */
export interface ConfigAnswer {
  ice_servers: IceServer[];
  protocol: number;
  recording: boolean;
  push_urls: string[];
}

/** The WebRTC connection of the viewer who is told. `bitrate`: bits of pictures in the last second. */
export interface ConnectionFigures {
  state: string;
  bitrate: number;
  video_in: VideoInFigures;
  video_out: VideoOutFigures;
  audio_in: AudioInFigures;
  audio_out: AudioOutFigures;
  ice_restarts: number;
}

/** Forget what was kept under a name. */
export interface DeletePreset {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "delete_preset";
  name: string;
}

/** Ask for `SessionInfo`. */
export interface Describe {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "describe";
}

/** The engine: stopped, starting, ready, busy or failed, why, and how often it was started. */
export interface EngineHealth {
  state: string;
  reason: string;
  starts: number;
}

/** The engine process died (`reason`); it is being started again, and the last good workflow loaded into it. */
export interface EngineLostData {
  reason: string;
}

export interface EngineLostNotice {
  v: 1;
  type: "event";
  event: "engine_lost";
  revision: number;
  data: EngineLostData;
}

/** The engine process died (`reason`) and runs again with revision `revision` (0 = none was active). */
export interface EngineRestartedData {
  reason: string;
  frames_lost: number;
}

export interface EngineRestartedNotice {
  v: 1;
  type: "event";
  event: "engine_restarted";
  revision: number;
  data: EngineRestartedData;
}

/**
 * What is wrong: `code` for programs, `message` and `hint` for people, `field` where in the message.
 *
 * `node` is the workflow's node that it is about.
 */
export interface ErrorBody {
  code: string;
  message: string;
  hint: string;
  field?: string | null;
  node?: string | null;
}

/** What a viewer gets for a frame whose node raised. */
export type FailPolicy = "hold" | "slate" | "passthrough" | "stop";

/** A file of the server's folders, by its path in them, in real time; again and again while `is_looped`. */
export interface FileChoice {
  type: "file";
  path: string;
  is_looped?: boolean;
  has_sound?: boolean;
}

/** A GPU of the server; None for what its driver does not say. Memory in bytes, of all programs together. */
export interface GpuFigures {
  index: number;
  name: string;
  utilisation?: number | null;
  memory_used_bytes?: number | null;
  memory_total_bytes?: number | null;
  engine_memory_bytes?: number | null;
  temperature_c?: number | null;
  power_w?: number | null;
}

/** The whole truth. `draining`: the server is ending and takes no new sessions. */
export interface HealthAnswer {
  draining: boolean;
  engine: EngineHealth;
  node_classes: number;
  broken_packs: string[];
  sessions: number;
  max_sessions: number;
}

/** A STUN or TURN server, as browsers take it. */
export interface IceServer {
  urls: string[];
  username?: string | null;
  credential?: string | null;
}

/** What a tick is driven by: one input modality, or the graph's own clock when it has no input. */
export type Lane = "video" | "audio" | "clock";

/** A workflow of the library; `models` are the ids of those that it needs, in the lists of configs/. */
export interface Listed {
  name: string;
  title: string;
  description: string;
  takes: string[];
  gives: string[];
  models: string[];
}

/** Memory that the two processes hold; None where the system does not say, or where there is no engine process. */
export interface MemoryFigures {
  server_bytes?: number | null;
  engine_bytes?: number | null;
}

/** Median and 95th percentile of the last seconds, in milliseconds. */
export interface Milliseconds {
  p50: number;
  p95: number;
}

/** Nobody sends, viewers neither: for workflows that need no input and tick by a clock. */
export interface NoChoice {
  type: "none";
}

/** A node was not run because one before it blocked it with a message; repeats are reported once a second. */
export interface NodeBlockedData {
  node_id: string;
  class_type: string;
  message: string;
  count: number;
}

export interface NodeBlockedNotice {
  v: 1;
  type: "event";
  event: "node_blocked";
  revision: number;
  data: NodeBlockedData;
}

/** A node raised. Repeats of the same failure are reported once a second with their `count`. */
export interface NodeFailedData {
  node_id: string;
  class_type: string;
  message: string;
  hint: string;
  exception_type: string;
  frame: number;
  lane: Lane;
  count: number;
}

export interface NodeFailedNotice {
  v: 1;
  type: "event";
  event: "node_failed";
  revision: number;
  data: NodeFailedData;
}

/**
 * Mean time of one call of a node that runs per frame, and how often it was called.
 *
 * With frames on a GPU: `place` is "cuda" for a node whose pictures are there, whose time is then that of giving the
 * GPU its work, and "host" for one whose pictures are brought to the host. `moved_bytes` is what is moved per call.
 */
export interface NodeFigures {
  node: string;
  class_type: string;
  ms: number;
  calls: number;
  place: string;
  moved_bytes: number;
}

/** A node sent `data`, as JSON has it, to ComfyUI's editor under `name`; ten a second of each come through. */
export interface NodeMessageData {
  name: string;
  data: unknown;
  node_id: string;
}

export interface NodeMessageNotice {
  v: 1;
  type: "event";
  event: "node_message";
  revision: number;
  data: NodeMessageData;
}

/** A session description as browsers have it. */
export interface Offer {
  sdp: string;
  type?: string;
}

/** The answer to an offer, and the session to come back to. `resource`: path of the connection. */
export interface OfferAnswer {
  sdp: string;
  type: string;
  session: string;
  resource: string;
}

/**
 * POST /offer. Clients of the first generation send more than we know; that is passed over.
 *
 * Attributes:
 *     prompts: API-format workflow, a list of some, which are joined, or nothing: then frames are echoed.
 *     offer: from the browser.
 *     resolution: size of the pictures to come; where the server's own `size_mode` is fit or fill, the size for it.
 *     workflow: one of the server's workflows by name, in place of `prompts`.
 *     session: id of a session to come back to.
 *     source: where frames come from, in place of the viewer.
 */
export interface OfferBody {
  prompts?: unknown;
  offer: Offer;
  resolution?: Resolution | null;
  workflow?: string | null;
  session?: string | null;
  source?: ViewerChoice | NoChoice | PatternChoice | FileChoice | UrlChoice | null;
}

/** A node pack (or its class `key`) could not be loaded; the others are there. */
export interface PackBrokenData {
  pack: string;
  message: string;
  hint: string;
  key: string;
}

export interface PackBrokenNotice {
  v: 1;
  type: "event";
  event: "pack_broken";
  revision: number;
  data: PackBrokenData;
}

/**
 * A value of a node that can be patched, with what a control for it needs to know.
 *
 * `is_color`: the value is a colour, an int 0xRRGGBB or a text "#rrggbb".
 */
export interface Parameter {
  node: string;
  input: string;
  title: string;
  class_type: string;
  label: string;
  kind: "int" | "float" | "boolean" | "combo" | "text";
  value: unknown;
  minimum?: number | null;
  maximum?: number | null;
  step?: number | null;
  options: unknown[];
  is_multiline: boolean;
  is_color: boolean;
  tooltip: string;
}

/**
 * One input of one node gets a new value.
 *
 * Attributes:
 *     node: id of the node.
 *     input: name of the input.
 *     value: a constant, a `[node id, output]` link, or a list wrapped as `{"__value__": [...]}`.
 *     relink: allows a constant in place of a link.
 */
export interface Patch {
  node: string;
  input: string;
  value: unknown;
  relink?: boolean;
}

/** Change values of the workflow, all or none. */
export interface PatchValues {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "patch";
  patches: Patch[];
}

/** The test card with a running number; `has_sound` adds a beep a second. */
export interface PatternChoice {
  type: "pattern";
  width?: number;
  height?: number;
  fps?: number;
  has_sound?: boolean;
}

/** Drop frames; the last picture stays. */
export interface Pause {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "pause";
}

/** What was being prepared does not come into force, and `reason` why; what ran before goes on. */
export interface PrepareFailedData {
  reason: string;
}

export interface PrepareFailedNotice {
  v: 1;
  type: "event";
  event: "prepare_failed";
  revision: number;
  data: PrepareFailedData;
}

/**
 * A set of values that can be recalled.
 *
 * `origin` says whether it came with the workflow or was saved; `revision` is the one that it was saved at.
 * `fits`: the workflow in force has all its nodes and inputs.
 */
export interface PresetInfo {
  name: string;
  origin: "workflow" | "saved";
  revision: number;
  fits: boolean;
}

/** A preset was saved or deleted: `name`. */
export interface PresetsChangedData {
  name: string;
}

export interface PresetsNotice {
  v: 1;
  type: "event";
  event: "presets";
  revision: number;
  data: PresetsChangedData;
}

/**
 * Preparing revision `revision` is in `phase` ("check", "compile", "load", "warm"); `done` of `total` nodes.
 *
 * `node_id` is the node that is run now; a node's own progress bar (a sampler's steps) comes as `value` of `maximum`,
 * and what it says of what it does as `message` ("building engine 3/5 (unet), about 4 min left").
 */
export interface ProgressData {
  phase: string;
  done: number;
  total: number;
  node_id?: string | null;
  value: number;
  maximum: number;
  message: string;
}

/** How far the revision is that is being prepared; as in the event "progress". */
export interface ProgressInfo {
  revision: number;
  phase: string;
  done: number;
  total: number;
  node_id: string | null;
  value: number;
  maximum: number;
  message: string;
}

export interface ProgressNotice {
  v: 1;
  type: "event";
  event: "progress";
  revision: number;
  data: ProgressData;
}

/** A receiver of RTMP, SRT or RTSP that the operator allows. `kbps` is for the pictures. */
export interface PushTo {
  type: "push";
  url: string;
  kbps?: number;
}

/** Pictures per second of a stream, now and over a minute. `timestamp`: its age in seconds. */
export interface Rates {
  timestamp: number;
  fps: number;
  minute_avg_fps: number;
  minute_fps_array: SecondRate[];
}

/** A recording in the server's folder: fragmented MP4. Without `name` it gets the session's, and the time. */
export interface RecordTo {
  type: "record";
  name?: string;
}

/** Forward to the revision that was undone last. */
export interface Redo {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "redo";
}

/** End a sink; a recording is complete when the reply comes. */
export interface RemoveSink {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "remove_sink";
  sink: string;
}

/**
 * The answer to one request.
 *
 * `revision` is the one in force afterwards; `first_frame` is the id of the first frame that it made, None when no
 * frames come at the moment. `sink` is the id of the one that was added.
 */
export interface Reply {
  v: 1;
  type: "reply";
  id?: string | number | null;
  ok: boolean;
  error?: ErrorBody | null;
  revision: number;
  first_frame?: number | null;
  info?: SessionInfo | null;
  sink?: string | null;
}

/** Size of the pictures to come; with `mode` fit or fill they are brought to it. */
export interface Resolution {
  width: number;
  height: number;
  mode?: SizeRule | null;
}

/** Go on. */
export interface Resume {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "resume";
}

/** Revision `revision` is in force; `who` made it and `why`. */
export interface RevisionChangedData {
  who: string;
  why: string;
  first_frame?: number | null;
}

export interface RevisionNotice {
  v: 1;
  type: "event";
  event: "revision";
  revision: number;
  data: RevisionChangedData;
}

/** Revision `revision` failed on its first frame; `restored` runs again. */
export interface RolledBackData {
  restored: number;
  reason: string;
}

export interface RolledBackNotice {
  v: 1;
  type: "event";
  event: "rolled_back";
  revision: number;
  data: RolledBackData;
}

/** Keep all values that can be turned, as they are now, under a name; one of that name is replaced. */
export interface SavePreset {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "save_preset";
  name: string;
}

/** Pictures in one second of a stream. */
export interface SecondRate {
  timestamp: number;
  fps: number;
}

/** A session in a list. */
export interface SessionBrief {
  session: string;
  state: string;
  revision: number;
  viewers: number;
}

/**
 * A session as it is now. `workflow` is in API format; `name` is one of the server's workflows, if it came so.
 *
 * `progress` is there while a workflow is being prepared.
 */
export interface SessionInfo {
  session: string;
  state: string;
  revision: number;
  name: string;
  workflow?: Record<string, unknown> | null;
  parameters: Parameter[];
  can_undo: boolean;
  can_redo: boolean;
  fail_policy: string;
  viewers: number;
  sinks: SinkFigures[];
  source: SourceBody;
  size_mode: SizeRule;
  width: number;
  height: number;
  presets: PresetInfo[];
  progress?: ProgressInfo | null;
}

/** What a session does with the frames that it gets. */
export type SessionState = "idle" | "preparing" | "running" | "paused" | "failed" | "ended";

/** What is shown for a frame whose node raised. */
export interface SetFailPolicy {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "fail_policy";
  policy: FailPolicy;
}

/**
 * What size the graph's pictures have: as they come, or made to fit or fill `width` x `height`.
 *
 * Sides that are left out stay; they must be even and from 16 to 4096.
 */
export interface SetSize {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "set_size";
  mode: SizeRule;
  width?: number | null;
  height?: number | null;
}

/**
 * Choose where frames come from; what was chosen before goes on until the new one is open.
 *
 * With `is_keeping` the session goes on without viewers while the source does.
 */
export interface SetSource {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "set_source";
  source: ViewerChoice | NoChoice | PatternChoice | FileChoice | UrlChoice;
  is_keeping?: boolean;
}

/** Replace the workflow, by one of the server's (`name`) or by JSON in API or editor format. */
export interface SetWorkflow {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "set_workflow";
  name?: string | null;
  workflow?: Record<string, unknown> | null;
}

export interface ShutdownNotice {
  v: 1;
  type: "event";
  event: "shutdown";
  revision: number;
  data: ShuttingDownData;
}

/** The server is ending: in `seconds` at the latest nothing comes any more. */
export interface ShuttingDownData {
  seconds: number;
}

/** A sink is in another state; `reason` says why. */
export interface SinkChangedData {
  sink: string;
  type: string;
  target: string;
  state: SinkState;
  reason: string;
}

/**
 * A recording or a push, and how it goes. `size` in bytes, `kbps` over the last seconds.
 *
 * `left_out`: frames of a kind that began after the recording did, or from before its beginning.
 */
export interface SinkFigures {
  sink: string;
  type: string;
  target: string;
  state: string;
  reason: string;
  frames: number;
  dropped: number;
  left_out: number;
  size: number;
  kbps: number;
}

export interface SinkNotice {
  v: 1;
  type: "event";
  event: "sink";
  revision: number;
  data: SinkChangedData;
}

/** How a sink is. */
export type SinkState = "starting" | "running" | "reconnecting" | "failed" | "ended";

/** Pictures get their size by `mode` from now on; width and height as in `FrameSize`. */
export interface SizeChangedData {
  mode: string;
  width: number;
  height: number;
}

export interface SizeNotice {
  v: 1;
  type: "event";
  event: "size";
  revision: number;
  data: SizeChangedData;
}

/** How incoming pictures get their size. */
export type SizeRule = "follow" | "fit" | "fill";

/**
 * The chosen source.
 *
 * `type` as in the choice, `name` for people, `sender` is who sends frames now, `reason` says why it is lost.
 */
export interface SourceBody {
  type: string;
  name: string;
  state: "viewers" | "opening" | "running" | "reconnecting" | "ended" | "failed";
  reason: string;
  sender: string;
}

/** Frames come from `who` now, from nobody when it is empty; `chosen` is the source that somebody asked for. */
export interface SourceChangedData {
  who: string;
  chosen: SourceStatus;
}

/** A file that can be chosen as a source: its path in the server's folders, and its size in bytes. */
export interface SourceFile {
  path: string;
  size: number;
}

export interface SourceNotice {
  v: 1;
  type: "event";
  event: "source";
  revision: number;
  data: SourceChangedData;
}

/** What a chosen source does. */
export type SourceState = "viewers" | "opening" | "running" | "reconnecting" | "ended" | "failed";

/** The chosen source: its type as in the control protocol, its name for people, how it is, and why. */
export interface SourceStatus {
  type: string;
  name: string;
  state: SourceState;
  reason: string;
}

/** What can be chosen as a source: files, and the patterns of addresses. */
export interface SourcesAnswer {
  files: SourceFile[];
  urls: string[];
}

/** The session went to `state`; `reason` says why when nobody asked for it. */
export interface StateChangedData {
  state: SessionState;
  reason: string;
}

export interface StateNotice {
  v: 1;
  type: "event";
  event: "state";
  revision: number;
  data: StateChangedData;
}

/**
 * What viewers are told once a second.
 *
 * `stages` has decode, wait, compute, encode, send and total; those that no picture passed are missing. `tick_ms` is
 * by lane. `latency_ms` is that of the newest picture, through the session. `dropped` is by reason, since the start.
 */
export interface Stats {
  state: string;
  fps_in: number;
  fps_out: number;
  frames_in: number;
  frames_out: number;
  dropped: Record<string, number>;
  viewers: number;
  source: string;
  latency_ms: number;
  stages: Record<string, Milliseconds>;
  failed: number;
  tick_ms: Record<string, Milliseconds>;
  nodes: NodeFigures[];
  memory: MemoryFigures;
  gpu: GpuFigures[];
  sinks: SinkFigures[];
  connection?: ConnectionFigures | null;
}

export interface StatsNotice {
  v: 1;
  type: "event";
  event: "stats";
  revision: number;
  data: Stats;
}

/** There is no such stream; the status is 200 all the same. */
export interface StreamNotFound {
  error: string;
}

/** A text that the workflow put out: the node, the frame that it was made from, and its media time in seconds. */
export interface TextData {
  text: string;
  node: string;
  frame: number;
  at_s: number;
}

export interface TextNotice {
  v: 1;
  type: "event";
  event: "text";
  revision: number;
  data: TextData;
}

/** Back to the revision before. */
export interface Undo {
  v?: 1;
  id?: string | number | null;
  base_revision?: number | null;
  type: "undo";
}

/** A stream or a file at an address that the server's operator allows. */
export interface UrlChoice {
  type: "url";
  url: string;
}

/** Pictures that came over a connection. */
export interface VideoInFigures {
  frames: number;
  lost_frames: number;
}

/** Pictures that went out. `target_bitrate` is aimed at, `estimate` is what the other end can take. */
export interface VideoOutFigures {
  codec: string;
  width: number;
  height: number;
  frames: number;
  key_frames: number;
  dropped: number;
  failed: number;
  bytes: number;
  target_bitrate: number;
  estimate?: number | null;
  encode_ms: number;
}

/** Nothing is chosen: of the viewers and publishers that send, the newest is the source. */
export interface ViewerChoice {
  type: "viewer";
}

/** A workflow of the server, in API format. */
export interface WorkflowAnswer {
  name: string;
  workflow: Record<string, unknown>;
}

/** What a notice carries, by its event. */
export interface EventData {
  state: StateChangedData;
  source: SourceChangedData;
  revision: RevisionChangedData;
  prepare_failed: PrepareFailedData;
  sink: SinkChangedData;
  size: SizeChangedData;
  presets: PresetsChangedData;
  progress: ProgressData;
  activated: ActivatedData;
  rolled_back: RolledBackData;
  node_failed: NodeFailedData;
  node_blocked: NodeBlockedData;
  node_message: NodeMessageData;
  engine_lost: EngineLostData;
  engine_restarted: EngineRestartedData;
  pack_broken: PackBrokenData;
  shutdown: ShuttingDownData;
  text: TextData;
  stats: Stats;
}
