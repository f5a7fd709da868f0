/** A connection to a wsgw gateway that reconnects and resumes by itself: what `GET /wsgw.js` of a gateway with `streams` exports. */

export interface GatewayOptions {
  /**
   * What to get first: `"last"` (the newest message of each channel), a number (the newest so many), a duration such as
   * `"5m"`, or a position that was saved from `at`. By default what `since` in the URL says, else what the gateway's
   * setting `history.since` says.
   */
  since?: string | number;
  /**
   * Whether streams, POSTs and polls carry cookies to another origin than the page's; the gateway's `allow-origin` must
   * then name the page's origin. A WebSocket always carries them. Default: false.
   */
  withCredentials?: boolean;
  /** The pause before the first reconnect, in ms; each further one is twice as long. Half of it is random. Default: 1000. */
  minDelay?: number;
  /** The longest pause, in ms. Default: 30,000. */
  maxDelay?: number;
  /** How long a transport may take to connect, in ms; after rounds in which all failed, up to 8 times that. Default: 3000. */
  timeout?: number;
}

/** A message. */
export interface GatewayMessageEvent extends Event {
  /** The body: a string; if it is binary, a `Blob` or an `ArrayBuffer` as `binaryType` says. */
  readonly data: string | Blob | ArrayBuffer;
  /** The first of the message's channels that this client is in. None for a message to all. */
  readonly channel?: string;
  /** The position, if the message was kept. */
  readonly at?: string;
}

/** The connection was lost, or all transports failed. The gateway reconnects, unless the handler calls `close()`. */
export interface GatewayErrorEvent extends Event {
  /** The close code of the gateway, such as 4001. 1006 if there is none; 1009 if a POST was too long. */
  readonly code: number;
  /** The gateway's reason, or what went wrong. May be empty. */
  readonly reason: string;
}

/** The end: after `close()`, or because the gateway closed with 1000. There is no event after it. */
export interface GatewayCloseEvent extends Event {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
}

/** Whether everything since the position is here. Comes after `open`, and before what was missed. */
export interface GatewayRecoveredEvent extends Event {
  /** If false, messages are missing here: load the state anew. */
  readonly recovered: boolean;
}

/** The gateway's listener put this client into more channels. */
export interface GatewayJoinedEvent extends Event {
  readonly channels: string[];
  readonly at?: string;
}

/** Another client came into a channel or left it. Not while connections are by polls. */
export interface GatewayPresenceEvent extends Event {
  readonly channel: string;
  readonly conn: string;
  /** How many there are now. */
  readonly members: number;
}

export interface GatewayEventMap {
  /** Connected, for the first time or again. */
  open: Event;
  message: GatewayMessageEvent;
  error: GatewayErrorEvent;
  close: GatewayCloseEvent;
  /**
   * After each reconnect, and after the first connect with a position as `since`. A gateway without a history cannot
   * know what was missed: then `recovered` is false.
   */
  recovered: GatewayRecoveredEvent;
  joined: GatewayJoinedEvent;
  join: GatewayPresenceEvent;
  leave: GatewayPresenceEvent;
}

type Handler<K extends keyof GatewayEventMap> = ((this: Gateway, event: GatewayEventMap[K]) => unknown) | null;

/**
 * Like a `WebSocket`, with these differences. It reconnects after everything but `close()` and a close by the gateway
 * with 1000; `close` comes once, at the very end, and a lost connection is an `error`. It resumes at its position: each
 * message comes once, in order, or `recovered` is false. Where no WebSocket gets through, it uses server-sent events
 * with POST, and at last polls.
 */
export declare class Gateway extends EventTarget {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;

  /**
   * @param url `ws:`, `wss:`, `http:` or `https:`, or relative to the page.
   * @throws {DOMException} `SyntaxError` for another scheme
   * @throws {TypeError} if it is not a URL
   */
  constructor(url: string | URL, options?: GatewayOptions);

  /** The URL, absolute, as one of a WebSocket. */
  readonly url: string;
  /** `CONNECTING` before the first connect and whenever the connection is lost. */
  readonly readyState: 0 | 1 | 2 | 3;
  /** How binary messages are given. Default: `"blob"`. */
  binaryType: "blob" | "arraybuffer";
  /** What the newest connection is made of. */
  readonly transport?: "websocket" | "sse" | "poll";
  /** The connection's name in the gateway. It changes at each reconnect. There is none while connections are by polls. */
  readonly conn?: string;
  /** The channels that the client was in when it connected. */
  readonly channels: string[];
  /** The position: what was received up to now. Save it to go on there later. There is none without a history. */
  readonly at?: string;
  /** What the newest `recovered` event said. */
  readonly recovered?: boolean;
  /** Whether `send()` would send: it is connected, and not by polls. */
  readonly canSend: boolean;

  /**
   * Sends a message. Nobody confirms it: what is under way when the connection is lost may be lost with it, and it is
   * never sent twice. Over server-sent events, text and binary messages are POSTs, one at a time. After `close()` it
   * does nothing.
   *
   * @throws {DOMException} `InvalidStateError` unless `canSend`, so also while it reconnects
   */
  send(data: string | Blob | ArrayBuffer | ArrayBufferView): void;
  /**
   * Closes for good. What was sent before still goes out. The gateway hears the code and the reason from a WebSocket;
   * for it, a stream ends with 1006.
   *
   * @throws {DOMException} as a WebSocket, if it is one and the code is neither 1000 nor from 3000 to 4999
   */
  close(code?: number, reason?: string): void;

  onopen?: Handler<"open">;
  onmessage?: Handler<"message">;
  onerror?: Handler<"error">;
  onclose?: Handler<"close">;
  onrecovered?: Handler<"recovered">;
  onjoined?: Handler<"joined">;
  onjoin?: Handler<"join">;
  onleave?: Handler<"leave">;

  addEventListener<K extends keyof GatewayEventMap>(
    type: K,
    listener: (this: Gateway, event: GatewayEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof GatewayEventMap>(
    type: K,
    listener: (this: Gateway, event: GatewayEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

export default Gateway;
