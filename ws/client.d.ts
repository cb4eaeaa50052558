// Types of client.js, whose top has the documentation. They are global, as crosscast is. As client.d.mts,
// ws.ClientJS serves them with lines that export the names, for client.mjs.
declare namespace crosscast {
  type State = "connecting" | "connected" | "waiting" | "gave up" | "closed";
  type ErrorCode = "not connected" | "timeout" | "closed" | "gave up" | "remote" | "uncertain" | "left" | "too large";

  /** Its result, or its promise, replies to an acknowledged emission. */
  type Handler = (data: any) => unknown;

  /** A time in which emissions might be missing. */
  interface Gap {
    /** "": everything. */
    room: string;
    since: Date;
    /** null: the gap goes on. */
    until: Date | null;
    /** Whether there was no connection. */
    away: boolean;
    /** In milliseconds. */
    wait: number;
  }

  interface Options {
    events?: Record<string, Handler>;
    onconnect?(client: Client): void | Promise<unknown>;
    ondisconnect?(client: Client, reason: string): void;
    onretry?(client: Client, reason: string, wait: number): void;
    ongap?(client: Client, gap: Gap): void;
    refetch?(client: Client, gap: Gap): void | Promise<unknown>;
    gapSpread?: number;
    gapMargin?: number;
    onjoinerror?(client: Client, room: string, error: ClientError): void;
    onerror?(client: Client, event: string, error: unknown): void;
    onstate?(client: Client, state: State): void;
    ongiveup?(client: Client, reason: string): void;
    giveUp?(client: Client, reason: string, code?: number): boolean;
    minBackoff?: number;
    maxBackoff?: number;
    dialTimeout?: number;
    requestTimeout?: number;
    awayBytes?: number;
    /** Bytes of a message. Default: 1 MiB. */
    writeLimit?: number;
    /** The URL of a server with Go's package sse, or true for the same one. */
    stream?: string | URL | boolean;
    streamAfter?: number;
    streamRetry?: number;
    /** The subprotocols that are offered. Default: crosscast.json.1, for bytes. */
    protocols?: string[];
    WebSocket?: new (url: string, protocols?: string[]) => unknown;
  }

  /** Who is in a room. */
  interface Presence<T = any> {
    room: string;
    /** What the users show, undefined if nothing; null: there are too many users. It changes later. */
    members: Map<string, T> | null;
    count: number;
    joined: string[];
    changed: string[];
    left: string[];
  }

  interface Timeout {
    /** In milliseconds. */
    timeout?: number;
  }

  class ClientError extends Error {
    constructor(code: ErrorCode, message?: string);
    readonly code: ErrorCode;
  }

  class Client {
    constructor(url: string | URL, options?: Options);
    readonly connected: boolean;
    readonly state: State;
    readonly rooms: string[];
    readonly transport: "websocket" | "stream" | "";
    on(event: string, handler: Handler): this;
    emit(event: string, data?: unknown): void;
    request<T = any>(event: string, data?: unknown, options?: Timeout): Promise<T>;
    join(room: string, options?: Timeout): Promise<void>;
    leave(room: string, options?: Timeout): Promise<void>;
    /** Returns a function that ends it. */
    presence<T = any>(room: string, onsync: (presence: Presence<T>) => void): () => void;
    close(): void;
  }
}
