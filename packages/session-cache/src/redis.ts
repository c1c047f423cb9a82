export { redisBell, type RedisBellOptions } from './bell/redis-bell.js'
