// AsyncAPI's own parser finds nothing wrong with docs/asyncapi.yaml.
//     node asyncapi.mjs docs/asyncapi.yaml

import { readFileSync } from 'node:fs'
import { Parser } from '@asyncapi/parser'

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'))
// 0 is an error, 1 a warning; the rest is advice.
const wrong = diagnostics.filter((each) => each.severity <= 1)
for (const each of wrong) console.error(`line ${each.range.start.line + 1}: ${each.code}: ${each.message}`)
if (wrong.length > 0 || !document) process.exit(1)
const messages = document.allMessages().all().length
console.log(`AsyncAPI: the parser takes ${document.allChannels().all().length} channels, ${messages} messages`)
