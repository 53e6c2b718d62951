/** A browser's page or a Node process, driven over the debugging protocol of V8. */

import { once } from 'node:events';

type Fields = Readonly<Record<string, unknown>>;

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Fields;
  readonly result?: Fields;
  readonly error?: { readonly message: string };
}

export class Debugged {
  readonly #socket: WebSocket;
  readonly #asked = new Map<number, PromiseWithResolvers<Fields>>();
  readonly #listeners = new Map<string, Set<(params: Fields) => void>>();
  #last = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener('message', ({ data }) => this.#take(JSON.parse(String(data)) as Message));
    socket.addEventListener('close', () => {
      for (const { reject } of this.#asked.values()) reject(new Error('the connection was closed'));
      this.#asked.clear();
    });
  }

  /** Connects to `ws://...` as the debugged program tells it. */
  static async at(url: string): Promise<Debugged> {
    const socket = new WebSocket(url);
    await once(socket, 'open');
    return new Debugged(socket);
  }

  /** Has a command carried out; rejects when the other side refuses it. */
  ask(method: string, params: Fields = {}): Promise<Fields> {
    this.#last += 1;
    const answer = Promise.withResolvers<Fields>();
    this.#asked.set(this.#last, answer);
    this.#socket.send(JSON.stringify({ id: this.#last, method, params }));
    return answer.promise;
  }

  /** The value of an expression, which must be plain data or a promise of that; rejects with what it throws. */
  async evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await this.ask('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return (result as { value: T }).value;
  }

  on(event: string, listener: (params: Fields) => void): void {
    this.#listeners.set(event, (this.#listeners.get(event) ?? new Set()).add(listener));
  }

  /** Resolves with the next event of that name. */
  next(event: string): Promise<Fields> {
    return new Promise((resolve) => {
      const listener = (params: Fields) => {
        this.#listeners.get(event)?.delete(listener);
        resolve(params);
      };
      this.on(event, listener);
    });
  }

  close(): void {
    this.#socket.close();
  }

  #take({ id, method, params = {}, result = {}, error }: Message): void {
    if (id !== undefined) {
      const asked = this.#asked.get(id);
      this.#asked.delete(id);
      if (error === undefined) asked?.resolve(result);
      else asked?.reject(new Error(error.message));
    }
    for (const listener of this.#listeners.get(method ?? '') ?? []) listener(params);
  }
}
