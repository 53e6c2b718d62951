/** Searches by pages (RFC 2696), since ldapts takes a page without entries for the last one, which it need not be. */

import { BerReader, type BerWriter, Control, ControlParser, PagedResultsControl } from 'ldapts';

/** Asks for one page: the first, or that which follows the one that came with this cookie. */
export class PageControl extends Control {
  readonly #request: PagedResultsControl;

  constructor(size: number, cookie: Buffer) {
    super(PagedResultsControl.type);
    this.#request = new PagedResultsControl({ value: { size, cookie } });
  }

  protected override writeControl(writer: BerWriter): void {
    this.#request.writeControl(writer);
  }
}

const endOfSearch = 0x65;
const controls = 0xa0;

/** The cookie in the message that ends a search, empty when that was the last page; throws when it is no such message. */
export function cookieIn(message: Buffer): Buffer {
  const none = Buffer.alloc(0);
  const reader = new BerReader(message);
  reader.readSequence();
  reader.readInt();
  if (reader.readSequence() !== endOfSearch) throw new Error('something else was said after it');
  reader.offset += reader.length;
  if (reader.peek() !== controls) return none;
  reader.readSequence();
  for (let at = -1; reader.remain > 0 && reader.offset > at; ) {
    at = reader.offset;
    const control = ControlParser.parse(reader, []);
    if (control instanceof PagedResultsControl) return control.value?.cookie ?? none;
  }
  return none;
}
